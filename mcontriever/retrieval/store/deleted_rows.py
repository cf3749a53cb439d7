"""The rows that no search returns any more: found by their documents' ids and listed in a file of the store."""

from collections.abc import Sequence

import numpy as np

from mcontriever.errors import DataError
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.shard_files import hash_of_id, npy_bytes, write_checked
from mcontriever.retrieval.store.store_manifest import DeletedEntry


def find_rows(store: EmbeddingStore, identifiers: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The live rows of these ids, and the ids that have none."""
    wanted = set(identifiers)
    if unwritable := [one for one in wanted if any("\ud800" <= character <= "\udfff" for character in one)]:
        raise DataError(f"the id {unwritable[0]!r} is not UTF-8", fix="give ids as the corpus has them, in UTF-8")
    hashes = np.array([hash_of_id(identifier) for identifier in wanted], dtype=np.uint64)
    rows = np.setdiff1d(store.rows_with_hashes(hashes), store.deleted_rows)
    names = [row["id"] for row in store.rows_shown(rows, ["id"])]
    truly = np.array([name in wanted for name in names], dtype=bool)
    return rows[truly], sorted(wanted.difference(names))


def write_deleted(store: EmbeddingStore, rows: np.ndarray, generation: int) -> DeletedEntry | None:
    rows = np.union1d(store.deleted_rows, rows).astype(np.int64)
    if not len(rows):
        return None
    name = f"deleted-{generation:05}.npy"
    documents = sum(row["part"] == 0 for row in store.rows_shown(rows, ["part"]))
    file = write_checked(store.folder / name, npy_bytes(rows))
    return DeletedEntry(name=name, rows=len(rows), documents=documents, **file.model_dump())
