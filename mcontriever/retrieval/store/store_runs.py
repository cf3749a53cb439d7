"""Runs that add shards to a store (embed, append, replace); each takes effect in one step or not at all.

A run writes its plan to pending.json and its shards one by one, each followed by its shard-00000.json. Whichever rank
finds all of them done replaces manifest.json and removes what is left over. After a kill the same run resumes with the
shards that are not done. The ranks of one launch share the store's lock and communicate through its files alone, so any
launcher works.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mcontriever.disk import FolderLock, remove_temporaries
from mcontriever.errors import StoreError
from mcontriever.output_folder import FolderKind
from mcontriever.retrieval.store.deleted_rows import find_rows, write_deleted
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.passages import Passage
from mcontriever.retrieval.store.shard_files import passages_table, shard_arrays, write_shard_files
from mcontriever.retrieval.store.store_manifest import (
    MANIFEST,
    PENDING,
    Manifest,
    Plan,
    ShardEntry,
    find_manifest,
    read_plan,
    read_shard_entry,
    shard_entry_path,
    write_entry,
)

STORE = FolderKind("store", marks=(MANIFEST, PENDING, "shard-*", "spooled-corpus*"))


@contextlib.contextmanager
def writing(folder: Path, rank: int = 0, world: int = 1) -> Iterator[None]:
    """Hold a store for writing: alone, or as one rank of a launch."""
    STORE.require_own(folder)
    with FolderLock(folder, shared=world > 1):
        if world == 1:
            remove_temporaries(folder)
            yield
        else:
            with FolderLock(folder, name=f".lock-rank-{rank}"):
                yield


def meeting(folder: Path) -> FolderLock:
    """The lock for what one rank of a launch does at a time: making the plan, and completing it."""
    return FolderLock(folder, name=".lock-plan", wait=True)


def done_shards(folder: Path, plan: Plan) -> list[ShardEntry]:
    numbers = range(plan.run.first_shard, plan.run.first_shard + len(plan.run.shard_ends))
    entries = (read_shard_entry(folder, number) for number in numbers)
    return [entry for entry in entries if entry is not None and entry.run == plan.run.id and _is_there(folder, entry)]


def _is_there(folder: Path, entry: ShardEntry) -> bool:
    """Whether its files have their sizes; a shard with a cut or lost file is made again."""
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == f.bytes for name, f in entry.files.items()
    )


def write_shard(
    folder: Path,
    plan: Plan,
    number: int,
    vectors_NH: np.ndarray | None,
    passages: Sequence[Passage],
    *,
    empty_ids: Sequence[str],
    truncated: int = 0,
) -> ShardEntry:
    """Write shard `number` of a plan; it is done when its entry is written."""
    arrays = shard_arrays(vectors_NH, passages, plan.layout.dtype)
    files = write_shard_files(folder, number, arrays, passages_table(passages, plan.layout.keeps_text))
    index = number - plan.run.first_shard
    entry = ShardEntry(
        number=number,
        run=plan.run.id,
        start=plan.run.shard_ends[index - 1] if index else 0,
        stop=plan.run.shard_ends[index],
        rows=len(passages),
        documents=sum(passage.part == 0 for passage in passages),
        languages=dict(Counter(passage.document.language for passage in passages)),
        detected_languages=sum(passage.document.language_detected for passage in passages),
        text_languages=dict(
            Counter(passage.document.text_language for passage in passages if passage.document.text_language)
        ),
        empty_ids=list(empty_ids),
        truncated=truncated,
        files=files,
    )
    write_entry(shard_entry_path(folder, number), entry)
    return entry


def complete(folder: Path, plan: Plan) -> bool:
    """If every shard is done, make them part of the store in one step. False if some rank is still working."""
    entries = done_shards(folder, plan)
    if len(entries) < len(plan.run.shard_ends):
        return False
    base = find_manifest(folder)
    assert (base.generation if base else 0) == plan.base_generation
    generation = plan.base_generation + 1
    deleted = base.deleted if base else None
    if base and plan.run.mode == "replace":
        store = EmbeddingStore(folder, base)
        replaced = [find_rows(store, [*_ids_of(folder, entry), *entry.empty_ids])[0] for entry in entries]
        deleted = write_deleted(store, np.concatenate(replaced), generation)
    kept = [entry for entry in entries if entry.rows]
    manifest = Manifest(
        generation=generation,
        next_shard=plan.run.first_shard + len(plan.run.shard_ends),
        layout=plan.layout,
        shards=[*(base.shards if base else []), *kept],
        deleted=deleted,
        runs=[*(base.runs if base else []), plan.run],
    )
    write_entry(folder / MANIFEST, manifest)
    sweep(folder, manifest)
    return True


def sweep(folder: Path, manifest: Manifest | None) -> None:
    """Remove what a complete store does not need: the plan, shard entries, files that no longer belong to it."""
    named = set()
    if manifest:
        named = {name for shard in manifest.shards for name in shard.files}
        named |= {manifest.deleted.name} if manifest.deleted else set()
    (folder / PENDING).unlink(missing_ok=True)
    for pattern in ("vectors-*.npy", "scales-*.npy", "documents-*.parquet", "deleted-*.npy", "shard-*.json"):
        for path in folder.glob(pattern):
            if path.name not in named:
                path.unlink(missing_ok=True)


def abandon(folder: Path) -> None:
    """Give up an unfinished run; what the manifest names stays."""
    sweep(folder, find_manifest(folder))


def refuse_while_pending(folder: Path) -> None:
    plan = read_plan(folder)
    if plan is not None:
        raise StoreError(
            f"an unfinished {plan.run.mode} of {plan.run.corpus['path']} is under way here: "
            f"{len(done_shards(folder, plan))} of {len(plan.run.shard_ends)} shards are done",
            where=folder,
            fix="run that mcontriever embed command again to finish it, or add --restart to discard it",
        )


def _ids_of(folder: Path, entry: ShardEntry) -> list[str]:
    from pyarrow import parquet

    table = parquet.read_table(folder / f"documents-{entry.number:05}.parquet", columns=["id"])
    return table.column(0).to_pylist()
