"""What every search over vectors needs; an EmbeddingStore has it, and so has an array.

Shapes: N rows, H dimensions, R rows asked for.
"""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np

# (queries_QH, k, rows allowed or None) -> (scores_QK, rows_QK), best first, row -1 where there is none
FindRows = Callable[[np.ndarray, int, np.ndarray | None], tuple[np.ndarray, np.ndarray]]


class Vectors(Protocol):
    """A store's vectors, or any rows that can be read like them."""

    @property
    def dimension(self) -> int: ...

    def __len__(self) -> int: ...

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]: ...

    def take(self, rows_R: np.ndarray) -> np.ndarray: ...


@runtime_checkable
class DerivedVectors(Protocol):
    """Vectors made of others by arithmetic that a product can go through, so that few queries need not make them."""

    @property
    def source(self) -> Vectors: ...

    def products_from(
        self, start: int, rows_BH: np.ndarray, products_QB: np.ndarray, queries_QH: np.ndarray
    ) -> np.ndarray:
        """Products of queries with the derived rows from `start` on, given the source's rows and their products."""
        ...


class ArrayVectors:
    """An array as Vectors."""

    def __init__(self, vectors_NH: np.ndarray) -> None:
        self.vectors_NH = vectors_NH

    @property
    def dimension(self) -> int:
        return self.vectors_NH.shape[1]

    def __len__(self) -> int:
        return len(self.vectors_NH)

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        yield self.vectors_NH[start:stop]

    def take(self, rows_R: np.ndarray) -> np.ndarray:
        return np.asarray(self.vectors_NH[rows_R], dtype=np.float32)
