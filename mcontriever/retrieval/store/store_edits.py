"""Deleting documents from a store and freeing their space; each takes effect in one step or not at all."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.drops import shown
from mcontriever.errors import DataError
from mcontriever.retrieval.store.deleted_rows import find_rows, write_deleted
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.shard_files import DETECTED, TEXT_LANGUAGE, write_shard_files
from mcontriever.retrieval.store.store_manifest import MANIFEST, Manifest, ShardEntry, write_entry
from mcontriever.retrieval.store.store_runs import refuse_while_pending, sweep


def delete(folder: Path, identifiers: Sequence[str], *, missing_ok: bool = False) -> tuple[int, list[str]]:
    """Delete documents by id. Returns how many were deleted, and the ids that were not in the store."""
    store = EmbeddingStore.open(folder)
    refuse_while_pending(folder)
    rows, missing = find_rows(store, identifiers)
    if missing and not missing_ok:
        raise DataError(
            f"{len(missing):,} of {len(set(identifiers)):,} ids are not in the store, so nothing was deleted: "
            f"{shown(missing)}",
            where=folder,
            fix="correct the ids, or delete the others with --missing-ok",
        )
    if len(rows):
        generation = store.manifest.generation + 1
        deleted = write_deleted(store, rows, generation)
        manifest = store.manifest.model_copy(update={"generation": generation, "deleted": deleted})
        write_entry(folder / MANIFEST, manifest)
        sweep(folder, manifest)
    return len(set(identifiers)) - len(missing), missing


def compact(folder: Path) -> int:
    """Write shards with deleted rows again without them, then remove the old ones. Returns the bytes freed."""
    store = EmbeddingStore.open(folder)
    refuse_while_pending(folder)
    manifest = store.manifest
    if not len(store.deleted_rows):
        return 0
    before = _bytes_of(manifest)
    shards, number = [], manifest.next_shard
    for index, shard in enumerate(manifest.shards):
        first, last = np.searchsorted(store.deleted_rows, store.starts[index : index + 2])
        if first == last:
            shards.append(shard)
            continue
        slimmer = _without_rows(store, index, store.deleted_rows[first:last] - store.starts[index], number)
        shards += [slimmer] if slimmer.rows else []
        number += 1
    update = {"generation": manifest.generation + 1, "next_shard": number, "shards": shards, "deleted": None}
    compacted = manifest.model_copy(update=update)
    write_entry(folder / MANIFEST, compacted)
    sweep(folder, compacted)
    return before - _bytes_of(compacted)


def _without_rows(store: EmbeddingStore, index: int, rows: np.ndarray, number: int) -> ShardEntry:
    shard = store.manifest.shards[index]
    kept = np.setdiff1d(np.arange(shard.rows), rows)
    table = store.table(index)
    removed = {row["id"] for row in table.select(["id"]).take(rows).to_pylist()}
    table = table.take(kept)
    arrays = {name: array[kept] for name, array in store.arrays(index).items()}
    languages = Counter(table["language"].to_pylist())
    return shard.model_copy(
        update={
            "number": number,
            "rows": len(kept),
            "documents": int((table["part"].to_numpy() == 0).sum()),
            "languages": dict(languages),
            "detected_languages": sum(_column(table, DETECTED)),
            "text_languages": dict(Counter(filter(None, _column(table, TEXT_LANGUAGE)))),
            "removed_ids": sorted({*shard.removed_ids, *removed}),
            "files": write_shard_files(store.folder, number, arrays, table),
        }
    )


def _column(table: Any, name: str) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else []


def _bytes_of(manifest: Manifest) -> int:
    return sum(file.bytes for shard in manifest.shards for file in shard.files.values())
