"""From documents to shards: the next shard is read and the last one written while one is embedded."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mcontriever.progress import Progress, log, track
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.embedding.launching import Place
from mcontriever.retrieval.embedding.store_estimate import announce_estimate
from mcontriever.retrieval.embedding.survey import is_empty
from mcontriever.retrieval.store.passages import Passage, embed_passages, passages_of
from mcontriever.retrieval.store.store_manifest import Plan, ShardEntry
from mcontriever.retrieval.store.store_runs import done_shards, write_shard
from mcontriever.texts.documents import Document
from mcontriever.texts.language_detection import with_detected_languages

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

# The progress line advances by this many documents. On a GPU by shards: the encoder tokenizes ahead within a call.
DOCUMENTS_PER_CALL = {"cpu": 1024, "cuda": 1 << 20}
CALIBRATION_DOCUMENTS = 2048


def embed_shards(folder: Path, plan: Plan, corpus: Corpus, encoder: "Encoder | None", place: Place) -> None:
    """This rank's shards that are not done yet."""
    done = {entry.number - plan.run.first_shard for entry in done_shards(folder, plan)}
    if done:
        log.info(f"resuming: {len(done):,} of {len(plan.run.shard_ends):,} shards are done")
    mine = [index for index in place.shards(len(plan.run.shard_ends)) if index not in done]
    if mine and encoder is not None and encoder.precision == "int8" and encoder.int8_ranges is None:
        _calibrate(encoder, corpus, plan)
    ends = [0, *plan.run.shard_ends]
    bounds = [(ends[index], ends[index + 1]) for index in mine]
    total = sum(stop - start for start, stop in bounds)
    shares = _LanguageShares(plan)
    with track(total, "embedding", "documents") as progress, ThreadPoolExecutor(1) as writer:
        written: Future[ShardEntry] | None = None
        for index, documents in zip(mine, _one_ahead(corpus.ranges(bounds)), strict=True):
            if index == mine[0] and place.rank == 0:
                announce_estimate(folder, plan, total / plan.run.documents, documents, encoder)
            vectors_NH, passages, truncated = _embed(documents, plan, encoder, progress, shares)
            if written is not None:
                written.result()
            written = writer.submit(
                write_shard,
                folder,
                plan,
                plan.run.first_shard + index,
                vectors_NH,
                passages,
                empty_ids=[document.id for document in documents if is_empty(document)],
                truncated=truncated,
            )
        if written is not None:
            written.result()


def _calibrate(encoder: "Encoder", corpus: Corpus, plan: Plan) -> None:
    """On the corpus's first documents, so that all ranks and a resumed run round equally."""
    first = next(corpus.ranges([(0, min(CALIBRATION_DOCUMENTS, plan.run.documents))]))
    texts = [f"{document.title} {document.text}".strip() for document in first if not is_empty(document)]
    if texts:
        encoder.calibrate(texts)


def _embed(
    documents: Sequence[Document],
    plan: Plan,
    encoder: "Encoder | None",
    progress: Progress,
    shares: "_LanguageShares",
) -> tuple[np.ndarray | None, list[Passage], int]:
    """Vectors (None without an encoder), their passages, and how many texts were truncated."""
    passages: list[Passage] = []
    vectors: list[np.ndarray] = []
    cut_before = encoder.truncated_texts if encoder else 0
    step = DOCUMENTS_PER_CALL["cuda" if encoder and encoder.device.type == "cuda" else "cpu"]
    for start in range(0, len(documents), step):
        chunk = documents[start : start + step]
        shown_shares = shares.after(chunk)
        if plan.run.detects_languages:
            chunk = with_detected_languages(chunk)
        length = plan.layout.passage_length
        rows = [row for document in chunk if not is_empty(document) for row in passages_of(document, length)]
        passages += rows
        vectors.append(embed_passages(encoder, rows))
        progress.advance(len(chunk), languages=shown_shares)
    if encoder is None:
        return None, passages, 0
    return np.concatenate(vectors), passages, encoder.truncated_texts - cut_before


def _one_ahead(items: Iterator[list[Document]]) -> Iterator[list[Document]]:
    """The items; the next one is read while one is used."""
    with ThreadPoolExecutor(1) as reader:
        upcoming: Future[list[Document]] = reader.submit(next, items, [])
        while item := upcoming.result():
            upcoming = reader.submit(next, items, [])
            yield item


class _LanguageShares:
    """How much of the largest languages is done, for the progress line."""

    def __init__(self, plan: Plan, shown: int = 4) -> None:
        self.totals = dict(sorted(plan.run.languages.items(), key=lambda item: -item[1])[:shown])
        self.done = Counter[str]()

    def after(self, documents: Sequence[Document]) -> str:
        self.done.update(document.language for document in documents)
        return ", ".join(
            f"{language or 'unnamed'} {self.done[language] / total:.0%}" for language, total in self.totals.items()
        )
