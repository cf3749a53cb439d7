"""An embedding run: survey and plan, embed shard after shard, complete. Any rank of any launch runs this same code."""

import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import orjson

from mcontriever.disk import atomic_path
from mcontriever.errors import ConfigError
from mcontriever.hub import lasting_name
from mcontriever.progress import log
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.embedding.launching import Place
from mcontriever.retrieval.embedding.planning import Mode, choose_layout, make_plan
from mcontriever.retrieval.embedding.rank_processes import run_ranks
from mcontriever.retrieval.embedding.shard_embedding import embed_shards
from mcontriever.retrieval.embedding.store_estimate import shown_size
from mcontriever.retrieval.store.store_manifest import MANIFEST, EncoderEntry, Plan, VectorType, read_manifest
from mcontriever.retrieval.store.store_runs import complete, meeting, writing
from mcontriever.shipped import BUNDLED
from mcontriever.texts.documents import Document

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

BM25 = "bm25"
STANDARD_INPUT = "-"
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
    precision: str = "auto"
    restart: bool = False
    as_queries: bool = False


def embed(request: EmbeddingRequest, processes: int = 1, encoder: "Encoder | None" = None) -> None:
    """Embed in this process as the rank its launcher says, or as `processes` ranks of our own."""
    place = Place.of_environment()
    if place.world > 1 and (processes > 1 or request.restart or request.corpus == STANDARD_INPUT):
        raise ConfigError(
            f"--processes, --restart and standard input are not for a launch of {place.world} ranks",
            fix="run once without the launcher, or leave them away",
        )
    corpus = None if request.corpus == STANDARD_INPUT else _open_corpus(request, request.corpus)
    with writing(request.output, place.rank, place.world):
        corpus = corpus or _open_corpus(request, _spooled_input(request.output))
        encoder, plan = _prepare(request, corpus, place, encoder)
        if plan is not None and processes == 1:
            embed_shards(request.output, plan, corpus, encoder, place)
            _finish(request.output, plan, place)
    if plan is None:
        (request.output / SPOOL).unlink(missing_ok=True)
        log.info(f"{request.output} is complete already: {described(request.output)}")
    elif processes > 1:
        del encoder
        run_ranks(embed, (replace(request, corpus=corpus.path, restart=False),), processes)
        log.info(f"{request.output}: {described(request.output)}")


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
    return EncoderEntry(model=lasting_name(name), fingerprint=encoder.fingerprint(), spec=encoder.spec())


def _prepare(
    request: EmbeddingRequest, corpus: Corpus, place: Place, encoder: "Encoder | None"
) -> tuple["Encoder | None", Plan | None]:
    name = request.model or _model_of(request.output)
    if encoder is None and name != BM25:
        from mcontriever.encoder import Encoder

        encoder = Encoder.load(name, device=place.device(request.device), precision=request.precision)
        if request.as_queries:  # such a store differs in its fingerprint, so no search takes it for documents
            encoder.document_prefix = encoder.query_prefix
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
            precision=request.precision,
            restart=request.restart,
        )
    return encoder, plan


def _model_of(folder: Path) -> str:
    """What made the store; the bundled model for a new one."""
    if not (folder / MANIFEST).exists():
        return BUNDLED
    made_by = read_manifest(folder).layout.encoder
    return made_by.model if made_by else BM25


def _finish(folder: Path, plan: Plan, place: Place) -> None:
    with meeting(folder):
        by_another = (folder / MANIFEST).exists() and read_manifest(folder).runs[-1].id == plan.run.id
        if not by_another and not complete(folder, plan):
            log.info(f"rank {place.rank} of {place.world} is done; the last one to finish completes the store")
            return
        (folder / SPOOL).unlink(missing_ok=True)
    _warn_of_cuts(folder, plan)
    log.info(f"{folder}: {described(folder)}")


def _warn_of_cuts(folder: Path, plan: Plan) -> None:
    shards = [shard for shard in read_manifest(folder).shards if shard.run == plan.run.id]
    truncated, rows = sum(shard.truncated for shard in shards), sum(shard.rows for shard in shards)
    if truncated and plan.layout.encoder:
        limit = plan.layout.encoder.spec["max_length"]
        log.warning(
            f"{truncated:,} of {rows:,} texts are longer than the encoder's {limit} tokens, and only their beginning "
            "is embedded; --passage-words cuts documents into passages instead"
        )


def _spooled_input(folder: Path) -> str:
    _write_spool(folder / SPOOL, sys.stdin.buffer)
    return str(folder / SPOOL)


def _open_corpus(request: EmbeddingRequest, path: str) -> Corpus:
    return Corpus.open(
        path, fields=request.fields, language=request.language, subset=request.subset, split=request.split
    )


def _write_spool(path: Path, source: IO[bytes]) -> None:
    """Keep what can be read only once, because it is read twice: to survey it, and to embed it."""
    import zstandard

    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        zstandard.ZstdCompressor(level=1).copy_stream(source, file)
