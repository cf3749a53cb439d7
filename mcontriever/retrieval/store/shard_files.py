"""The files of one shard: vectors as .npy (fp32, fp16, or int8 with a scale per row), documents as Parquet.

Shapes: N rows, H dimensions.
"""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.disk import atomic_path, edges_checksum
from mcontriever.errors import ModelError
from mcontriever.retrieval.store.passages import Passage
from mcontriever.retrieval.store.store_manifest import FileEntry, VectorType

DETECTED, TEXT_LANGUAGE = "language_detected", "text_language"  # columns only of shards with such rows
ROWS_PER_GROUP = 1000  # a search reads whole groups to show a hit
BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "int8": 1}
_NUMPY_TYPES = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}


def shard_arrays(
    vectors_NH: np.ndarray | None, passages: Sequence[Passage], dtype: VectorType
) -> dict[str, np.ndarray]:
    """The arrays that a shard stores: none, "vectors", or "vectors" and "scales"."""
    if vectors_NH is None:
        return {}
    assert len(vectors_NH) == len(passages)
    _check_finite(vectors_NH, passages, dtype)
    return dict(zip(("vectors", "scales"), to_stored(vectors_NH, dtype), strict=False))


def passages_schema(texts: bool) -> Any:
    """What every shard has. pyarrow imports pandas with the first array that it makes of Python's values."""
    import pyarrow as pa

    columns = {
        "id": pa.string(),
        "id_hash": pa.uint64(),
        "language": pa.dictionary(pa.int32(), pa.string()),
        "part": pa.int32(),
    }
    return pa.schema(columns | ({"title": pa.large_string(), "text": pa.large_string()} if texts else {}))


def passages_table(passages: Sequence[Passage], texts: bool) -> Any:
    """The rows of a shard as an Arrow table."""
    import pyarrow as pa

    documents = [passage.document for passage in passages]
    columns = {
        "id": [document.id for document in documents],
        "id_hash": [hash_of_id(document.id) for document in documents],
        "language": [document.language for document in documents],
        "part": [passage.part for passage in passages],
    }
    if texts:
        columns |= {"title": [document.title for document in documents], "text": [passage.text for passage in passages]}
    schema = passages_schema(texts)
    place = schema.get_field_index("part") + 1
    if any(document.text_language for document in documents):
        columns[TEXT_LANGUAGE] = [document.text_language for document in documents]
        schema = schema.insert(place, pa.field(TEXT_LANGUAGE, schema.field("language").type))
    if any(document.language_detected for document in documents):
        columns[DETECTED] = [document.language_detected for document in documents]
        schema = schema.insert(place, pa.field(DETECTED, pa.bool_()))
    return pa.table(columns, schema=schema)


def write_shard_files(folder: Path, number: int, arrays: dict[str, np.ndarray], table: Any) -> dict[str, FileEntry]:
    from pyarrow import BufferOutputStream, parquet

    sink = BufferOutputStream()
    parquet.write_table(table, sink, row_group_size=ROWS_PER_GROUP, compression="zstd")
    files = {f"{name}-{number:05}.npy": npy_bytes(array) for name, array in arrays.items()}
    files[f"documents-{number:05}.parquet"] = [memoryview(sink.getvalue())]
    return {name: write_checked(folder / name, parts) for name, parts in files.items()}


def hash_of_id(identifier: str) -> int:
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "little")


def write_checked(path: Path, parts: Sequence[bytes | memoryview]) -> FileEntry:
    """Write a file atomically; returns its size and checksum."""
    digest = hashlib.sha256()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        edges = edges_checksum(temporary)
    return FileEntry(bytes=sum(len(part) for part in parts), sha256=digest.hexdigest(), edges=edges)


def npy_bytes(array: np.ndarray) -> list[bytes | memoryview]:
    """A .npy file's header and data, without a copy. numpy's own writer hides why a disk refused."""
    array, header = np.ascontiguousarray(array), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return [header.getvalue(), array.reshape(-1).view(np.uint8).data]


def to_stored(vectors_NH: np.ndarray, dtype: VectorType) -> tuple[np.ndarray, ...]:
    """(vectors,) or, for int8, (vectors, scales): a row's largest value becomes 127."""
    if dtype != "int8":
        return (vectors_NH.astype(_NUMPY_TYPES[dtype]),)
    scales_N = (np.abs(vectors_NH).max(axis=1, initial=0) / 127).astype(np.float32)
    scales_N[scales_N == 0] = 1
    return np.rint(vectors_NH / scales_N[:, None]).astype(np.int8), scales_N


def from_stored(stored_NH: np.ndarray, scales_N: np.ndarray | None) -> np.ndarray:
    """Float values: fp32 and fp16 as they are (no copy), int8 as fp32."""
    return stored_NH if scales_N is None else stored_NH * scales_N[:, None]


def _check_finite(vectors_NH: np.ndarray, passages: Sequence[Passage], dtype: VectorType) -> None:
    largest = float(np.finfo(np.float16 if dtype == "fp16" else np.float32).max)
    good_N = (np.abs(vectors_NH) <= largest).all(axis=1)
    if not good_N.all():
        row = int(np.flatnonzero(~good_N)[0])
        raise ModelError(
            f"the embedding of document {passages[row].document.id!r} has values that {dtype} cannot hold "
            f"({np.abs(vectors_NH[row]).max()})",
            fix="use --dtype fp32, or check the model for NaN",
        )
