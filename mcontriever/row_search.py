"""A search over the rows of a store, as retrieval makes it and as mining and benchmarks use it.

Shapes: Q queries, K best rows of each (-1: none), P given rows of each (-1: none), N rows of the store.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mcontriever.texts.documents import Query


class Answer(Protocol):
    """What a search says about a block of queries."""

    def best(self, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first; among the rows allowed, else among all that are not deleted."""

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        """scores_QP of rows that the caller names; NaN for row -1."""


class RowSearch(Protocol):
    def ask(self, queries: Sequence[Query]) -> Answer: ...
