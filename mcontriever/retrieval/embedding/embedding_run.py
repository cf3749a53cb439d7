"""An embedding run: plan it, embed shard after shard, complete it. Any rank of any launch runs this same code."""

import contextlib
import io
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import orjson

from mcontriever.child_processes import check_count
from mcontriever.disk import atomic_path
from mcontriever.errors import ConfigError
from mcontriever.progress import log
from mcontriever.ray_engine import LOCAL, Share, is_ray, ray_cluster
from mcontriever.retrieval.embedding.encoder_origin import EncoderOrigin
from mcontriever.retrieval.embedding.launching import Place
from mcontriever.retrieval.embedding.planning import plan_run
from mcontriever.retrieval.embedding.rank_processes import run_ranks
from mcontriever.retrieval.embedding.ray_shards import embed_on_ray, load_for_planning, share_of_a_task
from mcontriever.retrieval.embedding.request import BM25, EmbeddingRequest
from mcontriever.retrieval.embedding.shard_embedding import embed_shards
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_encoder import encoder_entry
from mcontriever.retrieval.store.store_manifest import Plan, find_manifest, read_manifest
from mcontriever.retrieval.store.store_runs import STORE, complete, meeting, writing
from mcontriever.retrieval.store_calibration import open_calibration
from mcontriever.shipped import DEFAULT_MODEL
from mcontriever.texts.documents import Document

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

STANDARD_INPUT = "-"
SPOOL = "spooled-corpus.jsonl.zst"


def embed(request: EmbeddingRequest, processes: int = 1, encoder: "Encoder | None" = None, engine: str = LOCAL) -> None:
    """Embed in this process as the rank its launcher says, as `processes` ranks of our own, or by tasks of Ray."""
    place, folder, on_ray = Place.of_environment(), request.output, is_ray(engine)
    if not on_ray:
        check_count(processes, "--processes")
    if place.world > 1 and (processes > 1 or on_ray or request.restart or request.corpus == STANDARD_INPUT):
        raise ConfigError(
            f"--processes, --engine ray, --restart and standard input are not for a launch of {place.world} ranks",
            fix="run once without the launcher, or omit them",
        )
    corpus = None if request.corpus == STANDARD_INPUT else request.open_corpus(request.corpus)
    STORE.require_own(folder)  # before a model is loaded, and a model is loaded before the folder is made
    origin = EncoderOrigin.of(request, request.model or _model_of(folder))
    with ray_cluster(engine) if on_ray else contextlib.nullcontext() as cluster:
        share = share_of_a_task(cluster, request.device, processes) if cluster else Share()
        if cluster:
            encoder = load_for_planning(origin, share)
        elif encoder is None and origin.name != BM25:  # which needs no device, and so no torch
            encoder = origin.load(place.device(request.device))
        with writing(folder, place.rank, place.world):
            corpus = corpus or request.open_corpus(_spooled_input(folder))
            with meeting(folder):
                entry = encoder_entry(origin.name, encoder)
                plan = plan_run(request, corpus, entry, encoder.dimension if encoder else 0)
            if plan is not None and cluster:
                embed_on_ray(cluster, folder, plan, corpus, origin=origin, encoder=encoder, share=share)
                _finish(folder, plan, place, encoder)
            elif plan is not None and processes == 1:
                embed_shards(folder, plan, corpus, encoder, place)
                _finish(folder, plan, place, encoder)
    if plan is None:
        (folder / SPOOL).unlink(missing_ok=True)
        log.info(f"{folder} is complete already: {read_manifest(folder).described()}")
    elif processes > 1 and not on_ray:
        del encoder
        run_ranks(embed, (replace(request, corpus=corpus.path, restart=False),), processes)
        log.info(f"{folder}: {read_manifest(folder).described()}")


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


def _model_of(folder: Path) -> str:
    """What made the store; the default model for a new one."""
    manifest = find_manifest(folder)
    if manifest is None:
        return DEFAULT_MODEL
    return manifest.layout.encoder.model if manifest.layout.encoder else BM25


def _finish(folder: Path, plan: Plan, place: Place, encoder: "Encoder | None") -> None:
    with meeting(folder):
        manifest = find_manifest(folder)
        by_another = manifest is not None and manifest.runs[-1].id == plan.run.id
        if not by_another and not complete(folder, plan):
            log.info(f"rank {place.rank} of {place.world} is done; the last one to finish completes the store")
            return
        (folder / SPOOL).unlink(missing_ok=True)
        if encoder is not None:
            store = EmbeddingStore.open(folder)
            open_calibration(store)
            _keep_milvus_in_step(store)
    _tell_languages(folder, plan)
    _warn_of_cuts(folder, plan)
    log.info(f"{folder}: {read_manifest(folder).described()}")


def _keep_milvus_in_step(store: EmbeddingStore) -> None:
    if derived.manifest_of(store, "milvus") is not None:
        from mcontriever.retrieval.vector_search.milvus import keep_in_step

        keep_in_step(store)


def _tell_languages(folder: Path, plan: Plan) -> None:
    shards = [shard for shard in read_manifest(folder).shards if shard.run == plan.run.id]
    detected = sum(shard.detected_languages for shard in shards)
    unknown = sum(shard.languages.get("", 0) for shard in shards)
    if detected or (unknown and plan.run.detects_languages):
        rows = sum(shard.rows for shard in shards)
        log.info(f"of {rows:,} texts the languages of {detected:,} were detected; those of {unknown:,} are unknown")


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


def _write_spool(path: Path, source: IO[bytes]) -> None:
    """Keep what can be read only once, because a corpus is read twice: for its survey, and to embed it."""
    import zstandard

    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        zstandard.ZstdCompressor(level=1).copy_stream(source, file)
