"""Rows of unequal length in one flat array, which may be memory-mapped: a whole batch of them is cut at a time.

Shapes: N rows, T values in all rows, R rows asked for, M the longest of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Row i is values_T[offsets[i] : offsets[i + 1]]."""

    values_T: npt.NDArray[Any]
    offsets: IntArray

    @classmethod
    def of_lengths(cls, values_T: npt.NDArray[Any], lengths_N: IntArray) -> "Ragged":
        return cls(values_T, offsets_of(lengths_N))

    @classmethod
    def of(cls, rows: Sequence[npt.ArrayLike]) -> "Ragged":
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        lengths_N = np.array([len(array) for array in arrays], dtype=np.int64)
        return cls.of_lengths(np.concatenate(arrays) if arrays else np.zeros(0, np.int64), lengths_N)

    @classmethod
    def join(cls, parts: Sequence["Ragged"]) -> "Ragged":
        lengths_N = np.concatenate([part.lengths_N for part in parts])
        return cls.of_lengths(np.concatenate([part.values_T for part in parts]), lengths_N)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self.values_T[self.offsets[row] : self.offsets[row + 1]]

    @property
    def starts_N(self) -> IntArray:
        return self.offsets[:-1]

    @cached_property
    def lengths_N(self) -> IntArray:
        return np.diff(self.offsets)

    @property
    def rows_T(self) -> IntArray:
        """The row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths_N)

    @property
    def places_T(self) -> IntArray:
        """The place of each value in its row."""
        return spans(np.zeros(len(self), dtype=np.int64), self.lengths_N)

    def lengths_of(self, rows_R: IntArray) -> IntArray:
        return self.offsets[rows_R + 1] - self.offsets[rows_R]

    def take(self, rows_R: IntArray) -> "Ragged":
        """These rows, in this order."""
        lengths_R = self.lengths_of(rows_R)
        return Ragged.of_lengths(self.values_T[spans(self.offsets[rows_R], lengths_R)], lengths_R)

    def padded(self, rows_R: IntArray, fill: float = -1, width: int | None = None) -> npt.NDArray[Any]:
        """values_RM of these rows, `fill` where a row has ended; as wide as the longest of them, or as `width`."""
        lengths_R = self.lengths_of(rows_R)
        columns_M = np.arange(width or max(int(lengths_R.max(initial=0)), 1))
        inside_RM = columns_M < lengths_R[:, None]
        values_RM = np.full(inside_RM.shape, fill, dtype=self.values_T.dtype)
        values_RM[inside_RM] = self.values_T[(self.offsets[rows_R][:, None] + columns_M)[inside_RM]]
        return values_RM

    def cut(self, first_N: IntArray, lengths_N: IntArray) -> "Ragged":
        """From each row, `lengths_N` values from place `first_N` on."""
        return Ragged.of_lengths(self.values_T[spans(self.starts_N + first_N, lengths_N)], lengths_N)

    def keep(self, keep_T: npt.NDArray[np.bool_]) -> "Ragged":
        """Only the values that are marked."""
        return Ragged(self.values_T[keep_T], offsets_of(keep_T)[self.offsets])

    def split(self, rows: int) -> tuple["Ragged", "Ragged"]:
        """The first `rows` rows, and the others."""
        middle = self.offsets[rows]
        return (
            Ragged(self.values_T[:middle], self.offsets[: rows + 1]),
            Ragged(self.values_T[middle:], self.offsets[rows:] - middle),
        )

    def with_values(self, values_T: npt.NDArray[Any]) -> "Ragged":
        return replace(self, values_T=values_T)

    def to_lists(self) -> list[list[int]]:
        return [self[row].tolist() for row in range(len(self))]


def spans(first_N: IntArray, lengths_N: IntArray) -> IntArray:
    """The flat indices first, first + 1, ..., first + length - 1 of every row, one row after another."""
    offsets = offsets_of(lengths_N)
    indices_T = np.repeat(first_N - offsets[:-1], lengths_N)
    indices_T += np.arange(offsets[-1])
    return indices_T


def offsets_of(lengths_N: npt.NDArray[Any]) -> IntArray:
    """Where each row starts, and where the last one ends."""
    offsets = np.zeros(len(lengths_N) + 1, dtype=np.int64)
    np.cumsum(lengths_N, out=offsets[1:])
    return offsets
