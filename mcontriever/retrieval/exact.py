"""Exact search: every row is scored, block by block over the memory-mapped shards, in bounded memory.

Scores are first approximated by bf16 products, many times faster than fp32 where the processor knows bf16. The best of
them are scored again in fp32, and the differences seen there tell how far the others may be off. A query whose
answer is not certain by that measure is searched again in fp32 throughout.

Shapes: N rows of the store, Q queries, H dimensions, B rows of a block, K wanted, C candidates scored again.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from mcontriever.core_pool import side_by_side
from mcontriever.fast_cpu import good_at_bf16
from mcontriever.retrieval.running_best import EXTRA_COLUMNS, RunningBest

MEMORY_BYTES = 200 << 20
QUERIES_PER_PRODUCT = 256
QUERIES_PER_SCORING = 32
ROWS_PER_CONVERSION = 2048
FEW_QUERIES = 4
BLOCK_ROWS, BLOCKS_AT_ONCE = 16_384, 16
SPARE_CANDIDATES = 32
SAFETY = 4.0  # how many times the largest difference seen among the candidates an unseen one may have


class Vectors(Protocol):
    """A store's vectors, or anything that looks like them."""

    @property
    def dimension(self) -> int: ...

    def __len__(self) -> int: ...

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]: ...

    def take(self, rows_R: np.ndarray) -> np.ndarray: ...


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


class ExactSearch:
    """Holds on to bf16 copies of the blocks when all of them fit into the memory budget."""

    def __init__(self, vectors: Vectors, *, memory_bytes: int = MEMORY_BYTES, bf16: bool | None = None) -> None:
        self.vectors = vectors
        self.bf16 = good_at_bf16() if bf16 is None else bf16
        row_bytes = 2 * (vectors.dimension + EXTRA_COLUMNS)
        work_bytes = row_bytes + 4 * vectors.dimension + 10 * QUERIES_PER_PRODUCT
        self.block_rows = int(np.clip(memory_bytes // 2 // work_bytes, 256, BLOCK_ROWS))
        self.keeps_blocks = len(vectors) * row_bytes <= memory_bytes // 2
        self._kept: dict[int, torch.Tensor] = {}
        self._used = False

    def search(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first; of equal scores the lower row first. Rows not allowed are passed over."""
        found = len(self.vectors) if allowed_N is None else int(np.count_nonzero(allowed_N))
        k = min(k, found)
        queries = torch.from_numpy(np.ascontiguousarray(queries_QH, dtype=np.float32))
        if k == 0 or not len(queries):
            return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
        first_time, self._used = not self._used, True
        if len(queries) <= FEW_QUERIES and (first_time or not self.keeps_blocks):
            return self._search_few(queries, k, allowed_N)
        if not self.bf16:
            return self._search_fp32(queries, k, allowed_N)
        scores_QK, rows_QK, certain_Q = self._search_bf16(queries, k, allowed_N, found)
        if not certain_Q.all():
            scores_QK[~certain_Q], rows_QK[~certain_Q] = self._search_fp32(queries[~certain_Q], k, allowed_N)
        return scores_QK, rows_QK

    def _search_bf16(
        self, queries_QH: torch.Tensor, k: int, allowed_N: np.ndarray | None, found: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, rows, and whether a query's answer is certain."""
        count = min(k + max(SPARE_CANDIDATES, k // 2), found)
        rough_QC, rows_QC, unseen_Q = self._best(queries_QH, count, allowed_N, torch.bfloat16)
        exact_QC = scores_of_rows(self.vectors, queries_QH, rows_QC)
        margin_Q = SAFETY * (exact_QC - rough_QC).abs().amax(1)
        scores_QK, rows_QK = _sorted(exact_QC, rows_QC, k)
        certain_Q = (scores_QK[:, -1] >= unseen_Q + margin_Q) | (count == found)
        return scores_QK.numpy(), rows_QK.numpy(), certain_Q.numpy()

    def _search_fp32(
        self, queries_QH: torch.Tensor, k: int, allowed_N: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        _, rows_QK, _ = self._best(queries_QH, k, allowed_N, torch.float32)
        scores_QK, rows_QK = _sorted(scores_of_rows(self.vectors, queries_QH, rows_QK), rows_QK, k)
        return scores_QK.numpy(), rows_QK.numpy()

    def _search_few(
        self, queries_QH: torch.Tensor, k: int, allowed_N: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Straight from the mapped rows in fp32: for so few products a conversion would cost more than it saves."""
        best = RunningBest(queries_QH, k, torch.float32)

        def scores_of_block(start: int) -> torch.Tensor:
            stop = min(start + self.block_rows, len(self.vectors))
            parts = [
                part.float() @ queries_QH.T
                for first in range(start, stop, ROWS_PER_CONVERSION)
                for piece in self.vectors.pieces(first, min(first + ROWS_PER_CONVERSION, stop))
                for part in _in_parts(piece)
            ]
            return torch.cat(parts)

        starts = range(0, len(self.vectors), self.block_rows)
        apply = side_by_side(len(starts), queries_QH.device)
        for first in range(0, len(starts), BLOCKS_AT_ONCE):
            some = starts[first : first + BLOCKS_AT_ONCE]
            for start, scores_BQ in zip(some, apply(scores_of_block, some), strict=True):
                rows = torch.arange(start, start + len(scores_BQ))
                if allowed_N is not None:
                    rows = rows[torch.from_numpy(allowed_N[start : start + len(scores_BQ)])]
                if len(rows):
                    best.take(scores_BQ[rows - start] - best.shift_Q, rows)
        scores_QK, rows_QK = _sorted(best.scores_QC, best.rows_QC, k)
        return scores_QK.numpy(), rows_QK.numpy()

    def _best(
        self, queries_QH: torch.Tensor, count: int, allowed_N: np.ndarray | None, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """scores_QC and rows_QC by products of `dtype`, and the most that a row passed over seemed to score."""
        bests = [RunningBest(part_QH, count, dtype) for part_QH in queries_QH.split(QUERIES_PER_PRODUCT)]
        for block_BH, rows_B in self._blocks(allowed_N, dtype):
            for best in bests:
                best.add(block_BH, rows_B)
        return (
            torch.cat([best.scores_QC for best in bests]),
            torch.cat([best.rows_QC for best in bests]),
            torch.cat([best.unseen_Q for best in bests]),
        )

    def _blocks(self, allowed_N: np.ndarray | None, dtype: torch.dtype) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Rows with a column of ones behind them, and their row numbers; rows not allowed are left out."""
        keeps = self.keeps_blocks and dtype == torch.bfloat16
        buffer = self._new_block(dtype)
        for start in range(0, len(self.vectors), self.block_rows):
            stop = min(start + self.block_rows, len(self.vectors))
            block = self._kept.get(start) if keeps else None
            if block is None:
                block = (self._new_block(dtype) if keeps else buffer)[: stop - start]
                self._fill(block, start, stop)
                if keeps:
                    self._kept[start] = block
            rows = torch.arange(start, stop)
            if allowed_N is not None:
                allowed = torch.from_numpy(np.flatnonzero(allowed_N[start:stop]))
                block, rows = (block[allowed], rows[allowed]) if len(allowed) < len(rows) else (block, rows)
            if len(rows):
                yield block, rows

    def _new_block(self, dtype: torch.dtype) -> torch.Tensor:
        width = self.vectors.dimension + EXTRA_COLUMNS
        block = torch.zeros(min(self.block_rows, len(self.vectors)), width, dtype=dtype)
        block[:, self.vectors.dimension] = 1
        return block

    def _fill(self, block: torch.Tensor, start: int, stop: int) -> None:
        filled = 0
        for piece in self.vectors.pieces(start, stop):
            for part in _in_parts(piece):
                block[filled : filled + len(part), : self.vectors.dimension] = part.float()
                filled += len(part)
        assert filled == stop - start


def scores_of_rows(vectors: Vectors, queries_QH: torch.Tensor, rows_QC: torch.Tensor) -> torch.Tensor:
    """Scores in fp32 of each query with its own rows; -infinity for row -1."""
    scores_QC = torch.empty(rows_QC.shape)
    for start in range(0, len(rows_QC), QUERIES_PER_SCORING):
        part = slice(start, start + QUERIES_PER_SCORING)
        rows = rows_QC[part].clamp(min=0)
        own_QCH = torch.from_numpy(vectors.take(rows.flatten().numpy())).view(*rows.shape, -1)
        scores_QC[part] = torch.bmm(own_QCH, queries_QH[part, :, None])[:, :, 0]
    return scores_QC.masked_fill_(rows_QC < 0, -torch.inf)


def _in_parts(piece: np.ndarray) -> Sequence[torch.Tensor]:
    """Few enough rows at a time that a converted copy stays in the processor's cache."""
    return torch.from_numpy(piece).split(ROWS_PER_CONVERSION)


def _sorted(scores_QC: torch.Tensor, rows_QC: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    by_row = rows_QC.argsort(dim=1)
    scores_QC, rows_QC = scores_QC.gather(1, by_row), rows_QC.gather(1, by_row)
    order = scores_QC.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores_QC.gather(1, order), rows_QC.gather(1, order)
