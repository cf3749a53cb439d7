"""From documents to shards: the next shard is read and the last one written while one is embedded."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mcontriever.progress import log, track
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
    mine = [index for index in missing_shards(folder, plan) if index in place.shards(len(plan.run.shard_ends))]
    if mine and encoder is not None and encoder.precision == "int8" and encoder.int8_ranges is None:
        calibrate(encoder, corpus, plan)
    ends = [0, *plan.run.shard_ends]
    bounds = [(ends[index], ends[index + 1]) for index in mine]
    total = sum(stop - start for start, stop in bounds)
    shares = LanguageShares(plan)
    with track(total, "embedding", "documents") as progress, ThreadPoolExecutor(1) as writer:

        def seen(documents: Sequence[Document]) -> None:
            counted = Counter(document.language for document in documents)
            progress.advance(len(documents), languages=shares.after(counted))

        written: Future[ShardEntry] | None = None
        for index, documents in zip(mine, _one_ahead(corpus.ranges(bounds)), strict=True):
            if index == mine[0] and place.rank == 0:
                announce_estimate(folder, plan, total / plan.run.documents, documents, encoder)
            embedded = _embed(documents, plan, encoder, seen)
            if written is not None:
                written.result()
            written = writer.submit(_write, folder, plan, index, documents, embedded)
        if written is not None:
            written.result()


def embed_shard(
    folder: Path, plan: Plan, index: int, documents: Sequence[Document], encoder: "Encoder | None"
) -> ShardEntry:
    """One shard alone, by any process that has its documents."""
    return _write(folder, plan, index, documents, _embed(documents, plan, encoder, lambda chunk: None))


def missing_shards(folder: Path, plan: Plan) -> list[int]:
    done = {entry.number - plan.run.first_shard for entry in done_shards(folder, plan)}
    if done:
        log.info(f"resuming: {len(done):,} of {len(plan.run.shard_ends):,} shards are done")
    return [index for index in range(len(plan.run.shard_ends)) if index not in done]


def calibrate(encoder: "Encoder", corpus: Corpus, plan: Plan) -> None:
    """On the corpus's first documents, so that all ranks and a resumed run round equally."""
    first = next(corpus.ranges([(0, min(CALIBRATION_DOCUMENTS, plan.run.documents))]))
    texts = [f"{document.title} {document.text}".strip() for document in first if not is_empty(document)]
    if texts:
        encoder.calibrate(texts)


class _Embedded(NamedTuple):
    """Vectors (None without an encoder), their passages, and how many texts were truncated."""

    vectors_NH: np.ndarray | None
    passages: list[Passage]
    truncated: int


def _embed(
    documents: Sequence[Document],
    plan: Plan,
    encoder: "Encoder | None",
    seen: Callable[[Sequence[Document]], None],
) -> _Embedded:
    """`seen` is called with every few documents that are embedded."""
    passages: list[Passage] = []
    vectors: list[np.ndarray] = []
    cut_before = encoder.truncated_texts if encoder else 0
    step = DOCUMENTS_PER_CALL["cuda" if encoder and encoder.device.type == "cuda" else "cpu"]
    length = plan.layout.passage_length
    for start in range(0, len(documents), step):
        chunk = documents[start : start + step]
        with_languages = with_detected_languages(chunk) if plan.run.detects_languages else chunk
        rows = [row for document in with_languages if not is_empty(document) for row in passages_of(document, length)]
        passages += rows
        vectors.append(embed_passages(encoder, rows))
        seen(chunk)
    if encoder is None:
        return _Embedded(None, passages, 0)
    return _Embedded(np.concatenate(vectors), passages, encoder.truncated_texts - cut_before)


def _write(folder: Path, plan: Plan, index: int, documents: Sequence[Document], embedded: _Embedded) -> ShardEntry:
    return write_shard(
        folder,
        plan,
        plan.run.first_shard + index,
        embedded.vectors_NH,
        embedded.passages,
        empty_ids=[document.id for document in documents if is_empty(document)],
        truncated=embedded.truncated,
    )


def _one_ahead(items: Iterator[list[Document]]) -> Iterator[list[Document]]:
    """The items; the next one is read while one is used."""
    with ThreadPoolExecutor(1) as reader:
        upcoming: Future[list[Document]] = reader.submit(next, items, [])
        while item := upcoming.result():
            upcoming = reader.submit(next, items, [])
            yield item


class LanguageShares:
    """How much of the largest languages is done, for the progress line."""

    def __init__(self, plan: Plan, shown: int = 4) -> None:
        self.totals = dict(sorted(plan.run.languages.items(), key=lambda item: -item[1])[:shown])
        self.done = Counter[str]()

    def after(self, documents: "Counter[str]") -> str:
        """`documents` are those that are done now, by language."""
        self.done.update(documents)
        return ", ".join(
            f"{language or 'unnamed'} {self.done[language] / total:.0%}" for language, total in self.totals.items()
        )
