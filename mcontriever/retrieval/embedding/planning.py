"""The plan of an embedding run, made before any model runs, or found where a killed run left it.

`plan_run` is the one way in: the layout the store has or gets, then the plan of the run under way or a new one.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from mcontriever.errors import ConfigError, DataError, StoreError
from mcontriever.progress import log
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.embedding.survey import Survey, survey
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.opening_check import check_shards, read_deleted_rows
from mcontriever.retrieval.store.store_encoder import check_encoder
from mcontriever.retrieval.store.store_manifest import (
    PENDING,
    EncoderEntry,
    Layout,
    Manifest,
    Plan,
    RunEntry,
    find_manifest,
    read_plan,
    write_entry,
)
from mcontriever.retrieval.store.store_runs import abandon, refuse_while_pending, sweep


def plan_run(request: EmbeddingRequest, corpus: Corpus, encoder: EncoderEntry | None, dimension: int) -> Plan | None:
    """The plan of the run under way if it is the same, else a new one; None when this run is done already."""
    folder = request.output
    manifest = find_manifest(folder)
    if manifest and request.mode != "new":
        check_shards(folder, manifest)  # nothing is added to a damaged store
        read_deleted_rows(folder, manifest)
    layout = _layout(request, manifest, encoder, dimension)
    asked = _request_hashes(request, corpus, layout)
    if request.restart:
        abandon(folder)
    pending = read_plan(folder)
    if manifest and pending and manifest.runs[-1] == pending.run:
        sweep(folder, manifest)  # it was completed, and killed before it had cleaned up
        pending = None
    if pending:
        if pending.run.request not in asked:
            refuse_while_pending(folder)
        _check_unchanged(corpus, pending.run, folder)
        return pending
    if manifest and _is_done(manifest, request, asked, corpus):
        return None
    plan = _new_plan(request, corpus, layout, manifest, asked[0])
    write_entry(folder / PENDING, plan)
    return plan


def _layout(
    request: EmbeddingRequest, manifest: Manifest | None, encoder: EncoderEntry | None, dimension: int
) -> Layout:
    """The store's own layout, which must agree with the request; a new store's is the request's."""
    names = ("dtype", "keeps_text", "passage_words", "passage_overlap")
    asked = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
    if manifest is None:
        if "passage_overlap" in asked and "passage_words" not in asked:
            raise ConfigError("--passage-overlap is given, --passage-words is not", fix="give both, or neither")
        overlap = 0 if "passage_words" in asked else None
        defaults = {"dtype": "fp16", "keeps_text": True, "passage_words": None, "passage_overlap": overlap}
        return Layout.model_validate({"encoder": encoder, "dimension": dimension, **defaults, **asked})
    layout = manifest.layout
    check_encoder(layout.encoder, encoder, request.output)
    for name, value in asked.items():
        if value != getattr(layout, name):
            raise StoreError(
                f"the store has {name} {getattr(layout, name)}, not {value}",
                where=request.output,
                fix="omit the option, or embed into another store",
            )
    return layout


def _is_done(manifest: Manifest, request: EmbeddingRequest, asked: list[str], corpus: Corpus) -> bool:
    if request.mode != "new":  # done if it was the last change of the store, from the same documents
        last = manifest.runs[-1]
        is_last = last.request in asked and last.generation == manifest.generation
        return is_last and _is_unchanged(corpus, last)
    if manifest.runs[0].request in asked:
        _check_unchanged(corpus, manifest.runs[0], request.output)
        return True
    raise StoreError(
        f"a store of {manifest.documents:,} documents is here already (from {manifest.runs[0].corpus['path']})",
        where=request.output,
        fix="add to it with --append or --replace, or give another folder",
    )


def _new_plan(request: EmbeddingRequest, corpus: Corpus, layout: Layout, manifest: Manifest | None, asked: str) -> Plan:
    state = corpus.state()
    found = survey(corpus, request.shard_documents)
    if manifest and request.mode == "append":
        _refuse_known_ids(EmbeddingStore(request.output, manifest), corpus, found)
    empty = found.drops.total()
    if empty:
        log.warning(f"{empty:,} empty documents are dropped, first at {', '.join(found.drops.places['empty'])}")
    base_generation = manifest.generation if manifest else 0
    run = RunEntry(
        id=hashlib.sha256(f"{asked} {base_generation}".encode()).hexdigest(),
        request=asked,
        precision=request.precision,
        mode=request.mode,
        corpus=corpus.description(),
        corpus_state=state,
        content=found.content,
        documents=found.documents,
        empty=empty,
        characters=found.characters,
        languages=found.languages,
        detects_languages=request.detects_languages,
        shard_ends=list(found.shard_ends),
        first_shard=manifest.next_shard if manifest else 0,
        generation=base_generation + 1,
    )
    return Plan(run=run, layout=layout, base_generation=base_generation)


def _request_hashes(request: EmbeddingRequest, corpus: Corpus, layout: Layout) -> list[str]:
    """What identifies this request: the files, not how their path was typed (which version 0.1.0 hashed too)."""
    description = corpus.description()
    by_files = {name: value for name, value in description.items() if name != "path"}
    asked = {
        "layout": json.loads(layout.of_rows()),
        "mode": request.mode,
        "shard_documents": request.shard_documents,
        "precision": request.precision,
        **({} if request.detects_languages else {"detects_languages": False}),
    }
    requests = ({**asked, "corpus": found} for found in (by_files, description))
    return [hashlib.sha256(json.dumps(one, sort_keys=True).encode()).hexdigest() for one in requests]


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
