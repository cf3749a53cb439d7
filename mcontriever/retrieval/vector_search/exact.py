"""Exact search: every row is scored, block by block over the memory-mapped shards, in bounded memory.

Scores are first approximated by products of rounded rows (rough_search.py), many times faster than fp32. The best
candidates are scored again in fp32, and the differences show how wrong the other approximations may be. A query whose
answer is not certain by that measure is searched again with more candidates, and in the end in fp32 throughout.

Shapes: N rows of the store, Q queries, H dimensions, B rows of a block, K wanted, C candidates scored again.
"""

from functools import cached_property

import numpy as np
import torch

from mcontriever.core_pool import side_by_side
from mcontriever.retrieval.vector_search.best_rows import among_best, in_any_order, in_order
from mcontriever.retrieval.vector_search.rough_search import BLOCK_ROWS, RoughSearch, fit_into
from mcontriever.retrieval.vector_search.rounded_block import product_type
from mcontriever.retrieval.vector_search.vectors import DerivedVectors, Vectors

MEMORY_BYTES = 200 << 20
VALUES_PER_SCORING = 1 << 22
ROWS_PER_CONVERSION = 2048  # a converted copy stays in the processor's cache
FEW_QUERIES = 4
BLOCKS_AT_ONCE = 16
SPARE_CANDIDATES, SPARE_GROWTH, MOST_SPARE_CANDIDATES = 64, 8, 512
DEVIATIONS = 5  # an unseen row may differ by this many times the usual difference


class ExactSearch:
    """Keeps the rounded rows if all of them fit into the memory budget."""

    def __init__(
        self, vectors: Vectors, *, memory_bytes: int = MEMORY_BYTES, rough_dtype: torch.dtype | None = None
    ) -> None:
        """`rough_dtype` None: the type with which this processor is fastest."""
        self.vectors, self.memory_bytes = vectors, memory_bytes
        self.rough_dtype = rough_dtype or product_type(torch.device("cpu"), vectors.dimension)
        self.block_rows = int(np.clip(memory_bytes // 2 // (4 * vectors.dimension), 256, BLOCK_ROWS))
        self.keeps_rows = fit_into(memory_bytes // 2, vectors, self.rough_dtype)
        self._used = False

    @cached_property
    def rough(self) -> RoughSearch:
        return RoughSearch(self.vectors, memory_bytes=self.memory_bytes, dtype=self.rough_dtype)

    def search(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first; of equal scores the lower row first."""
        found = len(self.vectors) if allowed_N is None else int(np.count_nonzero(allowed_N))
        k = min(k, found)
        queries_QH = np.ascontiguousarray(queries_QH, dtype=np.float32)
        if k == 0 or not len(queries_QH):
            return np.zeros((len(queries_QH), k), np.float32), np.zeros((len(queries_QH), k), np.int64)
        return self._search(queries_QH, k, found, allowed_N, SPARE_CANDIDATES)

    def _search(
        self, queries_QH: np.ndarray, k: int, found: int, allowed_N: np.ndarray | None, spare: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """With `spare` extra candidates; queries that need more are searched again."""
        first_time, self._used = not self._used, True
        rounds = self.rough_dtype != torch.float32
        if len(queries_QH) <= FEW_QUERIES and (first_time or not (self.keeps_rows and rounds)):
            return self._search_few(queries_QH, k, allowed_N)
        if not rounds or spare > MOST_SPARE_CANDIDATES:
            return self._search_fp32(queries_QH, k, allowed_N)
        count = min(k + max(spare, k // 2), found)
        scores_QK, rows_QK, certain_Q = self._search_rounded(queries_QH, k, count, allowed_N)
        unsure_Q = ~certain_Q & (count < found)
        if unsure_Q.any():
            again = self._search(queries_QH[unsure_Q], k, found, allowed_N, spare * SPARE_GROWTH)
            scores_QK[unsure_Q], rows_QK[unsure_Q] = again
        return scores_QK, rows_QK

    def _search_rounded(
        self, queries_QH: np.ndarray, k: int, count: int, allowed_N: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, rows, and whether a query's answer is certain."""
        rough_QC, rows_QC = self.rough.search(queries_QH, count, allowed_N)
        exact_QC = scores_of_rows(self.vectors, queries_QH, rows_QC)
        steps_QC = (exact_QC - rough_QC) / self.rough.scales_of(rows_QC)
        usual_Q = np.sqrt(np.square(steps_QC).mean(axis=1))
        if self.rough_dtype == torch.int8:  # candidates may happen to be on whole steps; other rows need not be
            usual_Q = np.maximum(usual_Q, np.linalg.norm(queries_QH, axis=1) / np.sqrt(12))
        margin_Q = DEVIATIONS * usual_Q * self.rough.coarsest
        scores_QK, rows_QK = in_order(exact_QC, rows_QC, k)
        return scores_QK, rows_QK, scores_QK[:, -1] >= rough_QC[:, -1] + margin_Q

    def _search_fp32(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.rough_dtype == torch.float32:
            search = self.rough
        else:
            search = RoughSearch(self.vectors, memory_bytes=self.memory_bytes, dtype=torch.float32)
        _, rows_QK = search.search(queries_QH, k, allowed_N)
        return in_order(scores_of_rows(self.vectors, queries_QH, rows_QK), rows_QK, k)

    def _search_few(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """In fp32 from the mapped rows: rounding costs more than it saves for so few products."""
        # padded to FEW_QUERIES columns: with fewer, MKL took a quarter longer; numpy is faster for one alone
        padded_QH = torch.nn.functional.pad(torch.from_numpy(queries_QH), (0, 0, 0, FEW_QUERIES - len(queries_QH)))

        derived = self.vectors if isinstance(self.vectors, DerivedVectors) else None
        source = derived.source if derived else self.vectors

        def products(first: int, piece: np.ndarray) -> np.ndarray:
            rows_BH = np.asarray(piece, dtype=np.float32)
            if len(queries_QH) == 1:
                found_QB = np.vecdot(rows_BH, queries_QH[0])[None]
            else:
                found_QB = (torch.from_numpy(rows_BH) @ padded_QH.T).numpy()[:, : len(queries_QH)].T
            return derived.products_from(first, rows_BH, found_QB, queries_QH) if derived else found_QB

        def best_of_block(start: int) -> tuple[np.ndarray, np.ndarray]:
            stop = min(start + self.block_rows, len(self.vectors))
            parts, first = [], start
            while first < stop:
                for piece in source.pieces(first, min(first + ROWS_PER_CONVERSION, stop)):
                    parts.append(products(first, piece))
                    first += len(piece)
            scores_QB = np.ascontiguousarray(np.concatenate(parts, axis=1))
            rows_B = np.arange(start, stop)
            if allowed_N is not None:
                scores_QB, rows_B = scores_QB[:, allowed_N[start:stop]], rows_B[allowed_N[start:stop]]
            best_B = among_best(scores_QB, k)
            scores_QC = scores_QB[:, best_B]
            return scores_QC, np.broadcast_to(rows_B[best_B], scores_QC.shape)

        starts = range(0, len(self.vectors), self.block_rows)
        apply = side_by_side(len(starts), torch.device("cpu"))
        scores_QC, rows_QC = np.empty((len(queries_QH), 0), np.float32), np.empty((len(queries_QH), 0), np.int64)
        for first in range(0, len(starts), BLOCKS_AT_ONCE):
            found = [(scores_QC, rows_QC), *apply(best_of_block, starts[first : first + BLOCKS_AT_ONCE])]
            scores_QC, rows_QC = (np.concatenate(values, axis=1) for values in zip(*found, strict=True))
            scores_QC, rows_QC = in_any_order(scores_QC, rows_QC, k)
        return in_order(scores_QC, rows_QC, k)


def scores_of_rows(vectors: Vectors, queries_QH: np.ndarray, rows_QC: np.ndarray) -> np.ndarray:
    """Scores in fp32 of each query with its own rows; -infinity for row -1."""
    scores_QC = np.empty(rows_QC.shape, dtype=np.float32)
    step = max(VALUES_PER_SCORING // max(rows_QC.shape[1] * vectors.dimension, 1), 1)

    def score(start: int) -> None:
        part = slice(start, start + step)
        rows = np.maximum(rows_QC[part], 0)
        own_QCH = vectors.take(rows.ravel()).reshape(*rows.shape, -1)
        # torch.bmm may round the last rows otherwise (MKL with AVX2), and equal rows would differ
        scores_QC[part] = np.vecdot(own_QCH, queries_QH[part][:, None])

    starts = range(0, len(rows_QC), step)
    for _ in side_by_side(len(starts), torch.device("cpu"))(score, starts):
        pass
    scores_QC[rows_QC < 0] = -np.inf
    return scores_QC
