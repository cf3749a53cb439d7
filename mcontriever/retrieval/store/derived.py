"""What is made from a store and kept beside it (FAISS, BM25, language means): STORE/indexes/KIND with a manifest.json.

Each manifest holds the fingerprint of the rows it was made from, so an outdated one is never used.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcontriever.disk import FolderLock, atomic_folder, read_json, write_json
from mcontriever.errors import StoreError
from mcontriever.retrieval.store.embedding_store import EmbeddingStore

FOLDER = "indexes"
MADE_BY_THEMSELVES = {"language-means", "language-statistics", "lexical-weight", "text-keys"}


def folder_of(store: EmbeddingStore, kind: str) -> Path:
    return store.folder / FOLDER / kind


def kinds_newest_first(store: EmbeddingStore) -> list[str]:
    manifests = list((store.folder / FOLDER).glob("*/manifest.json"))
    return [path.parent.name for path in sorted(manifests, key=lambda path: -path.stat().st_mtime_ns)]


def manifest_of(store: EmbeddingStore, kind: str) -> dict[str, Any] | None:
    path = folder_of(store, kind) / "manifest.json"
    return read_json(path) if path.exists() else None


def is_fresh(store: EmbeddingStore, kind: str) -> bool:
    manifest = manifest_of(store, kind)
    return manifest is not None and manifest["rows_fingerprint"] == store.manifest.rows_fingerprint()


def require_fresh(store: EmbeddingStore, kind: str) -> dict[str, Any]:
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
    return manifest


def write(store: EmbeddingStore, kind: str, save: Callable[[Path], None], **facts: Any) -> dict[str, Any]:
    """Write a derived folder in one step; `save` writes its files."""
    manifest = {
        "kind": kind,
        "rows_fingerprint": store.manifest.rows_fingerprint(),
        "generation": store.manifest.generation,
        "rows": len(store),
        **facts,
    }
    with atomic_folder(folder_of(store, kind)) as temporary:
        save(temporary)
        write_json(temporary / "manifest.json", manifest)
    return manifest


def ensure(
    store: EmbeddingStore, kind: str, make: Callable[[], object], is_current: Callable[[], bool] | None = None
) -> None:
    """Make what is missing for the present rows, one process at a time. What is there needs no right to write."""
    is_current = is_current or (lambda: is_fresh(store, kind))
    if is_current():
        return
    with FolderLock(store.folder / FOLDER, wait=True):
        if not is_current():
            make()
