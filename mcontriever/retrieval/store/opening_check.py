"""What is checked whenever a store is opened: sizes, edges, array headers, the deleted rows. `verify` reads everything.

Size alone would let a changed header or a swapped shard pass, and searches would answer nonsense.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.disk import edges_checksum, sha256_of
from mcontriever.errors import StoreError
from mcontriever.npy_files import read_array, read_header
from mcontriever.retrieval.store.store_manifest import FileEntry, Manifest, ShardEntry

REPAIR = "run mcontriever verify STORE --repair"
STORED_TYPES = {"fp32": "<f4", "fp16": "<f2", "int8": "|i1"}


def check_shards(folder: Path, manifest: Manifest) -> None:
    layout = manifest.layout
    for shard in manifest.shards:
        for name, expected in shard.files.items():
            check_file(folder / name, expected)
        if layout.encoder is not None:
            shape = (shard.rows, layout.dimension)
            _check_header(folder / f"vectors-{shard.number:05}.npy", np.dtype(STORED_TYPES[layout.dtype]), shape)
            if layout.dtype == "int8":
                _check_header(folder / f"scales-{shard.number:05}.npy", np.dtype(np.float32), (shard.rows,))
        else:  # arrays say how many rows there are; without them the manifest's number must not be trusted
            _check_rows(folder / shard.documents_file, shard)


def check_file(path: Path, expected: FileEntry) -> None:
    """Size and, where they are known, first and last block."""
    found = path.stat().st_size if path.is_file() else None
    if found != expected.bytes:
        state = "is missing" if found is None else f"has {found:,} bytes"
        raise StoreError(f"{path.name} {state}, the manifest says {expected.bytes:,}", where=path, fix=REPAIR)
    try:
        edges = edges_checksum(path) if expected.edges else None
    except OSError as error:
        raise unreadable(path, error) from error
    if edges != expected.edges:
        raise StoreError(f"{path.name} is not the file that was written (checksum)", where=path, fix=REPAIR)


def read_deleted_rows(folder: Path, manifest: Manifest) -> np.ndarray:
    if manifest.deleted is None:
        return np.zeros(0, dtype=np.int64)
    path = folder / manifest.deleted.name
    check_file(path, manifest.deleted)
    if sha256_of(path) != manifest.deleted.sha256:
        raise StoreError(f"{path.name} is not the file that was written (checksum)", where=path, fix=REPAIR)
    rows = read_array(path, fix=REPAIR)
    is_list = rows.dtype == np.int64 and rows.shape == (manifest.deleted.rows,)
    if not is_list or (len(rows) and not 0 <= rows.min() <= rows.max() < manifest.rows):
        raise StoreError(f"{path.name} is not a list of this store's {manifest.rows:,} rows", where=path, fix=REPAIR)
    return rows


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Damage that Arrow finds in a file becomes a StoreError."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, IndexError) as error:
        raise unreadable(path, error) from error


def check_documents(file: Any, path: Path, shard: ShardEntry, schema: Any) -> None:
    """An open Parquet file has the shard's rows and a store's columns."""
    if file.metadata.num_rows != shard.rows:
        what = f"{path.name} has {file.metadata.num_rows:,} rows, the manifest says {shard.rows:,}"
        raise StoreError(what, where=path, fix=REPAIR)
    for field in schema:
        place = file.schema_arrow.get_field_index(field.name)
        if place < 0 or file.schema_arrow.field(place).type != field.type:
            found = "is missing" if place < 0 else f"has type {file.schema_arrow.field(place).type}"
            raise StoreError(f"the column {field.name} {found}; expected {field.type}", where=path, fix=REPAIR)


def unreadable(path: Path, error: Exception) -> StoreError:
    return StoreError(f"cannot be read: {error}", where=path, fix=REPAIR)


def _check_header(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    found = read_header(path, fix=REPAIR)
    if found != (shape, False, dtype):
        order = "Fortran" if found[1] else "C"
        what = f"the array is {found[2]} {found[0]} in {order} order; the manifest says {dtype} {shape} in C order"
        raise StoreError(what, where=path, fix=REPAIR)


def _check_rows(path: Path, shard: ShardEntry) -> None:
    from pyarrow import parquet

    with reading_parquet(path):
        rows = parquet.read_metadata(path).num_rows
    if rows != shard.rows:
        raise StoreError(f"{path.name} has {rows:,} rows, the manifest says {shard.rows:,}", where=path, fix=REPAIR)
