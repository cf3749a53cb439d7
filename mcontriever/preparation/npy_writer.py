"""Write .npy files row by row, without knowing beforehand how many rows there will be."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

BUFFERED_BYTES = 1 << 20


class NpyWriter:
    """`append` arrays of one dtype and row shape; on leaving the context the header gets the final count."""

    def __init__(self, path: str | Path, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self.rows = 0
        self._dtype, self._row_shape = np.dtype(dtype), row_shape
        self._file = open(path, "wb", buffering=BUFFERED_BYTES)  # noqa: SIM115 (closed in __exit__)
        self._header_bytes = self._write_header()

    def append(self, rows: npt.NDArray[Any]) -> None:
        assert rows.shape[1:] == self._row_shape
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self.rows += len(rows)

    def __enter__(self) -> "NpyWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.seek(0)
            assert self._write_header() == self._header_bytes, "numpy pads the header so that the count fits"
        self._file.close()

    def _write_header(self) -> int:
        description = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.rows, *self._row_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()


class TokenWriter:
    """The tokens of one language's documents, one after another, and the offsets where documents end."""

    def __init__(self, folder: Path, language: str, dtype: npt.DTypeLike, number: int) -> None:
        self.number = number
        self.tokens = NpyWriter(folder / f"{language}.tokens.npy", dtype)
        self.offsets = NpyWriter(folder / f"{language}.offsets.npy", "<i8")
        self.offsets.append(np.zeros(1, dtype=np.int64))

    def append(self, ids: npt.NDArray[Any]) -> None:
        self.tokens.append(ids)
        self.offsets.append(np.array([self.tokens.rows]))

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        self.tokens.__exit__(*error)
        self.offsets.__exit__(*error)
