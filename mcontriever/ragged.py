"""Rows of unequal length in one flat array: what every view of a window is cut from, a whole batch at a time.

Shapes: N rows, T tokens in all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Row i is values_T[starts_N[i] : starts_N[i] + lengths_N[i]]."""

    values_T: np.ndarray
    lengths_N: IntArray

    def __len__(self) -> int:
        return len(self.lengths_N)

    @cached_property
    def starts_N(self) -> IntArray:
        return np.cumsum(self.lengths_N) - self.lengths_N

    @property
    def rows_T(self) -> IntArray:
        """The row of each token."""
        return np.repeat(np.arange(len(self)), self.lengths_N)

    @property
    def places_T(self) -> IntArray:
        """The place of each token in its row."""
        return spans(np.zeros(len(self), dtype=np.int64), self.lengths_N)

    def cut(self, first_N: IntArray, lengths_N: IntArray) -> "Ragged":
        """From each row, `lengths_N` tokens from place `first_N` on."""
        return Ragged(self.values_T[spans(self.starts_N + first_N, lengths_N)], lengths_N)

    def take(self, rows: IntArray) -> "Ragged":
        """These rows, in this order."""
        return Ragged(self.values_T[spans(self.starts_N[rows], self.lengths_N[rows])], self.lengths_N[rows])

    def keep(self, keep_T: npt.NDArray[np.bool_]) -> "Ragged":
        """Only the tokens that are marked."""
        kept_before = np.concatenate([[0], np.cumsum(keep_T)])
        ends_N = np.cumsum(self.lengths_N)
        return Ragged(self.values_T[keep_T], kept_before[ends_N] - kept_before[ends_N - self.lengths_N])

    def split(self, rows: int) -> tuple["Ragged", "Ragged"]:
        """The first `rows` rows, and the others."""
        tokens = int(self.lengths_N[:rows].sum())
        return (
            Ragged(self.values_T[:tokens], self.lengths_N[:rows]),
            Ragged(self.values_T[tokens:], self.lengths_N[rows:]),
        )

    def with_values(self, values_T: np.ndarray) -> "Ragged":
        return replace(self, values_T=values_T)

    def to_lists(self) -> list[list[int]]:
        rows = zip(self.starts_N.tolist(), self.lengths_N.tolist(), strict=True)
        return [self.values_T[start : start + length].tolist() for start, length in rows]

    @classmethod
    def of(cls, rows: Sequence[npt.ArrayLike]) -> "Ragged":
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        lengths_N = np.array([len(array) for array in arrays], dtype=np.int64)
        return cls(np.concatenate(arrays) if arrays else np.zeros(0, np.int64), lengths_N)

    @classmethod
    def join(cls, parts: Sequence["Ragged"]) -> "Ragged":
        return cls(
            np.concatenate([part.values_T for part in parts]), np.concatenate([part.lengths_N for part in parts])
        )


def spans(first_N: IntArray, lengths_N: IntArray) -> IntArray:
    """The flat indices first, first + 1, ..., first + length - 1 of every row, back to back."""
    ends_N = np.cumsum(lengths_N)
    total = int(ends_N[-1]) if len(ends_N) else 0
    indices_T = np.repeat(first_N - (ends_N - lengths_N), lengths_N)
    indices_T += np.arange(total)
    return indices_T
