"""Rows of different lengths in one array: row i is values[offsets[i]:offsets[i + 1]].

Shapes: R rows asked for, M the longest of them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Ragged:
    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def load(cls, folder: Path, name: str, offsets: str | None = None) -> "Ragged":
        return cls(mapped(folder / f"{name}.npy"), mapped(folder / f"{offsets or name}_offsets.npy"))

    @classmethod
    def of(cls, rows: list[list[int]] | list[list[float]], dtype: type = np.int64) -> "Ragged":
        lengths = [len(row) for row in rows]
        values: np.ndarray = np.array([value for row in rows for value in row], dtype=dtype)
        return cls(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def counts(self, rows_R: np.ndarray) -> np.ndarray:
        return np.asarray(self.offsets[rows_R + 1] - self.offsets[rows_R])

    def padded(self, rows_R: np.ndarray, fill: float = -1, width: int | None = None) -> np.ndarray:
        """values_RM of these rows, `fill` where a row has ended; as wide as the longest of them, or as `width`."""
        counts_R = self.counts(rows_R)
        columns_M = np.arange(width or max(int(counts_R.max(initial=0)), 1))
        inside_RM = columns_M < counts_R[:, None]
        values_RM = np.full(inside_RM.shape, fill, dtype=self.values.dtype)
        values_RM[inside_RM] = self.values[(self.offsets[rows_R][:, None] + columns_M)[inside_RM]]
        return values_RM


def mapped(path: Path) -> np.ndarray:
    """A memory-mapped array as a plain one: numpy's own class for it makes every small slice ten times slower."""
    return np.load(path, mmap_mode="r").view(np.ndarray)
