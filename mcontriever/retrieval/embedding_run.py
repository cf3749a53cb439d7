"""An embedding run: survey and plan, embed shard after shard, complete. Any rank of any launch runs this same code."""

import io
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import orjson

from mcontriever.disk import atomic_path
from mcontriever.errors import ConfigError
from mcontriever.progress import log, track
from mcontriever.records import Document
from mcontriever.retrieval.corpus import Corpus
from mcontriever.retrieval.estimate import announce_estimate, shown_size
from mcontriever.retrieval.launching import Place
from mcontriever.retrieval.passages import Passage, embed_passages, passages_of
from mcontriever.retrieval.planning import Mode, choose_layout, make_plan
from mcontriever.retrieval.process_group import run_ranks
from mcontriever.retrieval.store_manifest import MANIFEST, EncoderEntry, Plan, ShardEntry, VectorType, read_manifest
from mcontriever.retrieval.store_runs import complete, done_shards, meeting, write_shard, writing
from mcontriever.retrieval.survey import is_empty

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

BM25 = "bm25"
STANDARD_INPUT = "-"
DOCUMENTS_PER_CALL = 1024
SPOOL = "spooled-corpus.jsonl.zst"


@dataclass(frozen=True)
class EmbeddingRequest:
    """What is to be embedded, how, and where to. None means: as the store has it, else the default."""

    corpus: str
    output: Path
    model: str | None = None
    mode: Mode = "new"
    fields: dict[str, str] | None = None
    language: str = ""
    subset: str | None = None
    split: str = "train"
    dtype: VectorType | None = None
    keeps_text: bool | None = None
    passage_words: int | None = None
    passage_overlap: int | None = None
    shard_documents: int | None = None
    device: str = "auto"
    restart: bool = False


def embed(request: EmbeddingRequest, processes: int = 1, encoder: "Encoder | None" = None) -> None:
    """Embed in this process as the rank its launcher says, or as `processes` ranks of our own."""
    place = Place.of_environment()
    if place.world > 1 and (processes > 1 or request.restart or request.corpus == STANDARD_INPUT):
        raise ConfigError(
            f"--processes, --restart and standard input are not for a launch of {place.world} ranks",
            fix="run once without the launcher, or leave them away",
        )
    with writing(request.output, place.rank, place.world):
        corpus = _open_corpus(request)
        encoder, plan = _prepare(request, corpus, place, encoder)
        if plan is not None and processes == 1:
            _embed_shards(request.output, plan, corpus, encoder, place)
            _finish(request.output, plan, place)
    if plan is None:
        log.info(f"{request.output} is complete already: {described(request.output)}")
    elif processes > 1:
        del encoder
        run_ranks(embed, (replace(request, corpus=corpus.path, restart=False),), processes)


def embed_documents(folder: Path, encoder: "Encoder", documents: Iterable[Document]) -> None:
    """Embed documents that are in memory into a new store."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        {"id": document.id, "text": document.text, "title": document.title, "language": document.language}
        for document in documents
    )
    spool = folder / SPOOL
    _write_spool(spool, io.BytesIO(b"".join(orjson.dumps(line) + b"\n" for line in lines)))
    embed(EmbeddingRequest(str(spool), folder, model="(in memory)"), encoder=encoder)


def described(folder: Path) -> str:
    manifest = read_manifest(folder)
    empty = sum(run.empty for run in manifest.runs)
    rows = f" in {manifest.rows:,} passages" if manifest.layout.passage_words else ""
    size = sum(file.bytes for shard in manifest.shards for file in shard.files.values())
    left_out = f", {empty:,} empty ones left out" if empty else ""
    return f"{manifest.documents:,} documents{rows}{left_out}, {len(manifest.shards):,} shards, {shown_size(size)}"


def encoder_entry(name: str, encoder: "Encoder | None") -> EncoderEntry | None:
    if encoder is None:
        return None
    model = str(Path(name).resolve()) if Path(name).exists() else name
    return EncoderEntry(model=model, fingerprint=encoder.fingerprint(), spec=encoder.spec())


def _prepare(
    request: EmbeddingRequest, corpus: Corpus, place: Place, encoder: "Encoder | None"
) -> tuple["Encoder | None", Plan | None]:
    name = request.model or _model_of(request.output)
    if encoder is None and name != BM25:
        from mcontriever.encoder import Encoder

        encoder = Encoder.load(name, device=place.device(request.device))
    layout = choose_layout(
        request.output,
        encoder_entry(name, encoder),
        encoder.dimension if encoder else 0,
        dtype=request.dtype,
        keeps_text=request.keeps_text,
        passage_words=request.passage_words,
        passage_overlap=request.passage_overlap,
    )
    with meeting(request.output):
        plan = make_plan(
            request.output,
            corpus,
            layout,
            request.mode,
            shard_documents=request.shard_documents,
            restart=request.restart,
        )
    return encoder, plan


def _model_of(folder: Path) -> str:
    if not (folder / MANIFEST).exists():
        raise ConfigError("no model is named", where=folder, fix="add --model NAME (a folder, a hub name, or bm25)")
    made_by = read_manifest(folder).layout.encoder
    return made_by.model if made_by else BM25


def _embed_shards(folder: Path, plan: Plan, corpus: Corpus, encoder: "Encoder | None", place: Place) -> None:
    """This rank's shards that are not done yet: read ahead, embed, write behind."""
    done = {entry.number - plan.run.first_shard for entry in done_shards(folder, plan)}
    mine = [index for index in place.shards(len(plan.run.shard_ends)) if index not in done]
    if done:
        log.info(f"going on: {len(done):,} of {len(plan.run.shard_ends):,} shards are done")
    ends = [0, *plan.run.shard_ends]
    bounds = [(ends[index], ends[index + 1]) for index in mine]
    total = sum(stop - start for start, stop in bounds)
    shards, shares = corpus.ranges(bounds), _LanguageShares(plan)
    with (
        track(total, "embedding", "documents") as progress,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        upcoming: Future[list[Document]] = reader.submit(next, shards, [])
        writing_now: Future[ShardEntry] | None = None
        for place_in_order, index in enumerate(mine):
            documents = upcoming.result()
            upcoming = reader.submit(next, shards, [])
            if place_in_order == 0 and place.rank == 0:
                announce_estimate(folder, plan, total / plan.run.documents, documents, encoder)
            passages: list[Passage] = []
            vectors: list[np.ndarray] = []
            for start in range(0, len(documents), DOCUMENTS_PER_CALL):
                chunk = documents[start : start + DOCUMENTS_PER_CALL]
                rows = _passages_of_all(chunk, plan)
                passages += rows
                vectors.append(embed_passages(encoder, rows))
                progress.advance(len(chunk), languages=shares.after(chunk))
            if writing_now is not None:
                writing_now.result()
            writing_now = writer.submit(
                write_shard,
                folder,
                plan,
                plan.run.first_shard + index,
                np.concatenate(vectors) if encoder else None,
                passages,
                empty_ids=[document.id for document in documents if is_empty(document)],
            )
        if writing_now is not None:
            writing_now.result()


def _passages_of_all(documents: Sequence[Document], plan: Plan) -> list[Passage]:
    length = plan.layout.passage_length
    return [row for document in documents if not is_empty(document) for row in passages_of(document, length)]


def _finish(folder: Path, plan: Plan, place: Place) -> None:
    with meeting(folder):
        by_another = (folder / MANIFEST).exists() and read_manifest(folder).runs[-1].id == plan.run.id
        if not by_another and not complete(folder, plan):
            log.info(f"rank {place.rank} of {place.world} is done; the last one to finish completes the store")
            return
        (folder / SPOOL).unlink(missing_ok=True)
    log.info(f"{folder}: {described(folder)}")


def _open_corpus(request: EmbeddingRequest) -> Corpus:
    path = request.corpus
    if path == STANDARD_INPUT:
        path = str(request.output / SPOOL)
        _write_spool(Path(path), sys.stdin.buffer)
    return Corpus.open(
        path, fields=request.fields, language=request.language, subset=request.subset, split=request.split
    )


def _write_spool(path: Path, source: IO[bytes]) -> None:
    """Keep what can be read only once, because it is read twice: to survey it, and to embed it."""
    import zstandard

    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        zstandard.ZstdCompressor(level=1).copy_stream(source, file)


class _LanguageShares:
    """How much of each of the largest languages is done, for the progress line."""

    def __init__(self, plan: Plan, shown: int = 4) -> None:
        self.totals = dict(sorted(plan.run.languages.items(), key=lambda item: -item[1])[:shown])
        self.done = Counter[str]()

    def after(self, documents: Sequence[Document]) -> str:
        self.done.update(document.language for document in documents)
        return ", ".join(
            f"{language or 'unnamed'} {self.done[language] / total:.0%}" for language, total in self.totals.items()
        )
