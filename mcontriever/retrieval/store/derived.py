"""What is made from a store and kept beside it (FAISS, BM25, language means): STORE/indexes/KIND with a manifest.json.

Each manifest holds the fingerprint of the rows it was made from, so an outdated one is never used, and the checksums of
its files, so a damaged one is not either.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic

from mcontriever.checksums import DAMAGED, first_damaged
from mcontriever.disk import FolderLock, atomic_folder, edges_checksum, is_plain_name, read_json, sha256_of, write_json
from mcontriever.errors import StoreError
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.opening_check import check_file
from mcontriever.retrieval.store.store_manifest import FileEntry

FOLDER, MANIFEST = "indexes", "manifest.json"
UNANSWERED = tuple(f"unanswered-{way}" for way in ("dense", "words", "subwords", "both"))
MADE_BY_THEMSELVES = {"language-means", "language-statistics", "text-keys", *UNANSWERED}


def folder_of(store: EmbeddingStore, kind: str) -> Path:
    if not is_plain_name(kind):
        raise StoreError(f"no index can have the name {kind!r}", where=store.folder, fix="give a kind of index")
    return store.folder / FOLDER / kind


def kinds_newest_first(store: EmbeddingStore) -> list[str]:
    manifests = list((store.folder / FOLDER).glob(f"*/{MANIFEST}"))
    return [path.parent.name for path in sorted(manifests, key=lambda path: -path.stat().st_mtime_ns)]


def manifest_of(store: EmbeddingStore, kind: str) -> dict[str, Any] | None:
    path = folder_of(store, kind) / MANIFEST
    if not path.exists():
        return None
    facts = read_json(path)
    known = {"rows_fingerprint": str, "generation": int, "rows": int}
    if not isinstance(facts, dict) or any(not isinstance(facts.get(name), kind) for name, kind in known.items()):
        raise StoreError("not the manifest of an index", where=path, fix="remove this folder and make the index again")
    return facts


def is_fresh(store: EmbeddingStore, kind: str) -> bool:
    manifest = manifest_of(store, kind)
    return manifest is not None and manifest["rows_fingerprint"] == store.manifest.rows_fingerprint()


def require_fresh(store: EmbeddingStore, kind: str) -> dict[str, Any]:
    """The manifest of what was made from the present rows and is whole."""
    manifest = manifest_of(store, kind)
    if manifest is None:
        made = ", ".join(sorted(set(kinds_newest_first(store)) - MADE_BY_THEMSELVES)) or "none"
        raise StoreError(
            f"no index of kind {kind} (there are: {made})",
            where=store.folder,
            fix=f"make it: mcontriever index {store.folder} --kind {kind}",
        )
    if not is_fresh(store, kind):
        raise StoreError(
            f"the {kind} index was made from other rows than the store has now "
            f"(generation {manifest['generation']}, the store is at {store.manifest.generation})",
            where=folder_of(store, kind),
            fix=f"make it again: mcontriever index {store.folder} --kind {kind}",
        )
    if what := damage_of(store, kind):
        fix = f"make it again: mcontriever index {store.folder} --kind {kind}"
        raise StoreError(f"the {kind} index is damaged: {what}", where=folder_of(store, kind), fix=fix)
    return manifest


def write(store: EmbeddingStore, kind: str, save: Callable[[Path], None], **facts: Any) -> dict[str, Any]:
    """Write a derived folder in one step; `save` writes its files."""
    with atomic_folder(folder_of(store, kind)) as temporary:
        save(temporary)
        manifest = {
            "kind": kind,
            "rows_fingerprint": store.manifest.rows_fingerprint(),
            "generation": store.manifest.generation,
            "rows": len(store),
            **facts,
            "files": {path.name: _entry_of(path).model_dump() for path in sorted(temporary.iterdir())},
        }
        write_json(temporary / MANIFEST, manifest)
    return manifest


def ensure(
    store: EmbeddingStore, kind: str, make: Callable[[], object], is_current: Callable[[], bool] | None = None
) -> None:
    """Make what is missing, outdated or damaged, one process at a time. What is there needs no right to write."""

    def is_usable() -> bool:
        try:
            return (is_current() if is_current else is_fresh(store, kind)) and not damage_of(store, kind)
        except StoreError:
            return False

    if is_usable():
        return
    with FolderLock(store.folder / FOLDER, wait=True):
        if not is_usable():
            make()


def _entry_of(path: Path) -> FileEntry:
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_of(path), edges=edges_checksum(path))


def damage_of(store: EmbeddingStore, kind: str) -> str | None:
    """What is wrong with the files, as far as their manifest knows them: that of version 0.1.0 does not."""
    folder = folder_of(store, kind)
    try:
        files = {
            name: FileEntry.model_validate(entry)
            for name, entry in read_json(folder / MANIFEST).get("files", {}).items()
        }
        for name, entry in files.items():
            if not is_plain_name(name):
                return f"{name!r} is not a file name"
            check_file(folder / name, entry)
    except StoreError as error:
        return error.what
    except (AttributeError, pydantic.ValidationError):
        return "its manifest lists no files"
    known = {folder / name: entry.sha256 for name, entry in files.items()}
    damaged = first_damaged(known, "make this index again (mcontriever index)")
    return None if damaged is None else f"{damaged.name} {DAMAGED}"
