"""What an embedding run will do, decided before any model runs, or found again where a killed run left it."""

import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np

from mcontriever.errors import ConfigError, DataError, StoreError
from mcontriever.progress import log
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.embedding.survey import Survey, survey
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_manifest import (
    MANIFEST,
    PENDING,
    EncoderEntry,
    Layout,
    Manifest,
    Plan,
    RunEntry,
    VectorType,
    read_manifest,
    read_plan,
    write_entry,
)
from mcontriever.retrieval.store.store_runs import abandon, refuse_while_pending, sweep

Mode = Literal["new", "append", "replace"]


def choose_layout(
    folder: Path,
    encoder: EncoderEntry | None,
    dimension: int,
    *,
    dtype: VectorType | None = None,
    keeps_text: bool | None = None,
    passage_words: int | None = None,
    passage_overlap: int | None = None,
) -> Layout:
    """The store's own layout where there is one, and it must agree with what was asked for; else a new one."""
    asked = {
        "dtype": dtype,
        "keeps_text": keeps_text,
        "passage_words": passage_words,
        "passage_overlap": passage_overlap,
    }
    existing = _existing_layout(folder)
    if existing is None:
        chosen = {
            "dtype": "fp16",
            "keeps_text": True,
            **{name: value for name, value in asked.items() if value is not None},
        }
        if passage_words is not None:
            chosen.setdefault("passage_overlap", 0)
        elif passage_overlap is not None:
            raise ConfigError("--passage-overlap is given, --passage-words is not", fix="give both, or neither")
        return Layout.model_validate(
            {"encoder": encoder, "dimension": dimension, "passage_words": None, "passage_overlap": None, **chosen}
        )
    check_encoder(existing.encoder, encoder, folder)
    for name, value in asked.items():
        if value is not None and value != getattr(existing, name):
            raise StoreError(
                f"the store has {name} {getattr(existing, name)}, not {value}",
                where=folder,
                fix="leave the option away, or embed into another store",
            )
    return existing


def check_encoder(made_by: EncoderEntry | None, given: EncoderEntry | None, folder: Path) -> None:
    """Vectors of two encoders cannot be compared."""
    if (made_by and made_by.fingerprint) != (given and given.fingerprint):
        raise StoreError(
            f"the store was made by another encoder: {_encoder_name(made_by)}, not {_encoder_name(given)}"
            + _differences(made_by, given),
            where=folder,
            fix="give the encoder that made the store, or embed the corpus again with this one",
        )


def make_plan(
    folder: Path,
    corpus: Corpus,
    layout: Layout,
    mode: Mode,
    *,
    shard_documents: int | None,
    precision: str,
    restart: bool,
) -> Plan | None:
    """The plan of this run: the one under way if it is the same, else a new one; None when it is done already."""
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    request = _request_hash(corpus, layout, mode, shard_documents, precision)
    if restart:
        abandon(folder)
    pending = read_plan(folder)
    if manifest and pending and manifest.runs[-1] == pending.run:
        sweep(folder, manifest)  # it was completed, and killed while tidying up
        pending = None
    if pending:
        if pending.run.request != request:
            refuse_while_pending(folder)
        _check_unchanged(corpus, pending.run, folder)
        return pending
    if manifest and mode == "new" and manifest.runs[0].request == request:
        _check_unchanged(corpus, manifest.runs[0], folder)
        return None
    if manifest and mode != "new" and _was_last(manifest, request) and _is_unchanged(corpus, manifest.runs[-1]):
        return None
    if manifest and mode == "new":
        raise StoreError(
            f"a store of {manifest.documents:,} documents is here already (from {manifest.runs[0].corpus['path']})",
            where=folder,
            fix="add to it with --append or --replace, or give another folder",
        )
    plan = _new_plan(folder, corpus, layout, mode, manifest, request, shard_documents, precision)
    write_entry(folder / PENDING, plan)
    return plan


def _new_plan(
    folder: Path,
    corpus: Corpus,
    layout: Layout,
    mode: Mode,
    manifest: Manifest | None,
    request: str,
    shard_documents: int | None,
    precision: str,
) -> Plan:
    state = corpus.state()
    found = survey(corpus, shard_documents)
    if manifest and mode == "append":
        _refuse_known_ids(EmbeddingStore(folder, manifest), corpus, found)
    empty = found.drops.total()
    if empty:
        log.warning(f"{empty:,} empty documents are dropped, first at {', '.join(found.drops.places['empty'])}")
    base_generation = manifest.generation if manifest else 0
    run = RunEntry(
        id=hashlib.sha256(f"{request} {base_generation}".encode()).hexdigest(),
        request=request,
        precision=precision,
        mode=mode,
        corpus=corpus.description(),
        corpus_state=state,
        content=found.content,
        documents=found.documents,
        empty=empty,
        characters=found.characters,
        languages=found.languages,
        shard_ends=list(found.shard_ends),
        first_shard=manifest.next_shard if manifest else 0,
        generation=base_generation + 1,
    )
    return Plan(run=run, layout=layout, base_generation=base_generation)


def _existing_layout(folder: Path) -> Layout | None:
    if (folder / MANIFEST).exists():
        return read_manifest(folder).layout
    return None


def _request_hash(corpus: Corpus, layout: Layout, mode: Mode, shard_documents: int | None, precision: str) -> str:
    asked = {
        "corpus": corpus.description(),
        "layout": layout.model_dump(mode="json"),
        "mode": mode,
        "shard_documents": shard_documents,
        "precision": precision,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _was_last(manifest: Manifest, request: str) -> bool:
    """Whether this was the last thing done to the store."""
    return manifest.runs[-1].request == request and manifest.runs[-1].generation == manifest.generation


def _is_unchanged(corpus: Corpus, run: RunEntry) -> bool:
    return corpus.state() == run.corpus_state or survey(corpus).content == run.content


def _check_unchanged(corpus: Corpus, run: RunEntry, folder: Path) -> None:
    if not _is_unchanged(corpus, run):
        raise StoreError(
            f"the corpus {corpus.path} has changed since it was embedded into this store",
            where=folder,
            fix="bring it up to date with --replace (or, if it was never finished, start over with --restart)",
        )


def _refuse_known_ids(store: EmbeddingStore, corpus: Corpus, found: Survey) -> None:
    rows = np.setdiff1d(store.rows_with_hashes(found.id_hashes_N), store.deleted_rows)
    if not len(rows):
        return
    known = {row["id"] for row in store.rows_shown(rows, ["id"])}
    for place, document in corpus.documents():
        if document.id in known:
            raise DataError(
                f"the id {document.id!r} is in the store already",
                where=f"{place}, and {store.folder}",
                fix="use --replace to put new documents in the place of old ones",
            )


def _encoder_name(encoder: EncoderEntry | None) -> str:
    return f"{encoder.model} (fingerprint {encoder.fingerprint[:12]})" if encoder else "bm25 (no vectors)"


def _differences(made_by: EncoderEntry | None, given: EncoderEntry | None) -> str:
    if not made_by or not given:
        return ""
    keys = sorted(made_by.spec.keys() | given.spec.keys())
    changed = [key for key in keys if made_by.spec.get(key) != given.spec.get(key)]
    return "".join(f"; {key} {made_by.spec.get(key)!r} against {given.spec.get(key)!r}" for key in changed)
