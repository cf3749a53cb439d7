"""Many queries, deep rankings, scores that are usually right to two thousandths: what mining asks of a search.

Rows and queries are rounded to 8 bits where the processor multiplies those fast (to bf16 where it does that), and
nothing is scored again. What rows have in common is taken off before: it changes no ranking, but in embeddings that
lie in a corner of the space it is most of a score, and would be most of the error. A block of rows meets 256 queries
at a time. Of a group of rows, which share one scale, only the best product is looked at, unless it beats what the
query needs: at first by a sample of the rows, then by what was found; few do.

Shapes: N rows of the store, Q queries, H dimensions, B rows of a block, G groups of R rows, K wanted, P pairs of a
group and a query, S rows found.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mcontriever.core_pool import Apply, side_by_side
from mcontriever.fast_cpu import good_at_bf16
from mcontriever.retrieval.exact import Vectors

BLOCK_ROWS = 16_384  # products of a block stay in the processor's cache
BLOCK_ROWS_ON_GPU = 65_536  # where starting a product costs more than the cache saves
QUERIES_PER_PRODUCT = 256
GROUP_ROWS = 16
SAMPLED_ROWS = 8192
WORTH_A_SAMPLE = 8  # times as many rows
ROWS_PER_ROUNDING = 4096
LARGEST_INT8, LEAST_VALUE = 127, 1e-6

NOTHING, LEAST = -(2**31), -1e30  # the product of a hidden row; what every other row scores more than


class RoughSearch:
    """Holds on to the rounded rows when all of them fit into half of the memory budget."""

    def __init__(self, vectors: Vectors, *, memory_bytes: int, device: str | torch.device = "cpu") -> None:
        self.vectors, self.device = vectors, torch.device(device)
        self.dtype = product_type(self.device)
        on_cpu = self.device.type == "cpu"
        products_bytes = 4 * QUERIES_PER_PRODUCT * (torch.get_num_threads() if on_cpu else 1)
        row_bytes = vectors.dimension * (self.dtype.itemsize + 4) + products_bytes
        most_rows = BLOCK_ROWS if on_cpu else BLOCK_ROWS_ON_GPU
        self.block_rows = int(np.clip(memory_bytes // 2 // row_bytes, GROUP_ROWS, most_rows))
        self.block_rows -= self.block_rows % GROUP_ROWS
        self.keeps_blocks = len(vectors) * vectors.dimension * self.dtype.itemsize <= memory_bytes // 2
        self._kept: dict[int, _Block] = {}
        self._sampled = np.unique(np.linspace(0, len(vectors) - 1, SAMPLED_ROWS).astype(np.int64))
        sample = torch.from_numpy(vectors.take(self._sampled)).to(self.device)
        self._centre_H = sample.mean(0)
        self._sample = _Block.rounded(sample, self._centre_H, self.dtype, 0)

    def search(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first; rows not allowed are passed over."""
        k = min(k, len(self.vectors) if allowed_N is None else int(np.count_nonzero(allowed_N)))
        if k == 0 or not len(queries_QH):
            return np.zeros((len(queries_QH), k), np.float32), np.zeros((len(queries_QH), k), np.int64)
        queries = torch.from_numpy(np.ascontiguousarray(queries_QH, dtype=np.float32)).to(self.device)
        rounded, scales_Q = rounded_rows(queries, self.dtype)
        parts = rounded.split(QUERIES_PER_PRODUCT)
        apply = side_by_side(len(parts), self.device)
        off_centre_QK, rows_QK = self._best(parts, k, allowed_N, self._estimates(parts, k, allowed_N, apply), apply)
        missing_Q = ~off_centre_QK[:, -1].isfinite()
        if missing_Q.any():
            parts = rounded[missing_Q].split(QUERIES_PER_PRODUCT)
            found = self._best(parts, k, allowed_N, [None] * len(parts), apply)
            off_centre_QK[missing_Q], rows_QK[missing_Q] = found
        scores_QK = off_centre_QK * scales_Q[:, None] + (queries @ self._centre_H)[:, None]
        return scores_QK.cpu().numpy(), rows_QK.cpu().numpy()

    def _best(
        self,
        parts: Sequence[torch.Tensor],
        k: int,
        allowed_N: np.ndarray | None,
        least: Sequence[torch.Tensor | None],
        apply: Apply,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Products times the rows' scales, and rows; -infinity fills up where too few reach the `least` score."""
        bests = [_Best(part, k, least_Q) for part, least_Q in zip(parts, least, strict=True)]
        for start in range(0, len(self.vectors), self.block_rows):
            block = self._block(start)
            stop = min(start + self.block_rows, len(self.vectors))
            hidden_B = self._hidden_rows(block, None if allowed_N is None else allowed_N[start:stop], stop - start)
            for _ in apply(functools.partial(_Best.add, block=block, hidden_B=hidden_B), bests):
                pass
        found = [best.merged() for best in bests]
        return torch.cat([scores for scores, _ in found]), torch.cat([rows for _, rows in found])

    def _estimates(
        self, parts: Sequence[torch.Tensor], k: int, allowed_N: np.ndarray | None, apply: Apply
    ) -> Sequence[torch.Tensor | None]:
        """For each query a score that more than k rows will reach, as it seems by a sample of the rows.

        The sample should hold `expected` of the k best; by four deviations' more than that it is nearly never wrong.
        """
        expected = k * len(self._sampled) / len(self.vectors)
        place = math.ceil(expected + 4 * math.sqrt(expected)) + 1
        if len(self.vectors) < WORTH_A_SAMPLE * SAMPLED_ROWS or place > len(self._sample.scales_G):
            return [None] * len(parts)
        allowed_S = None if allowed_N is None else allowed_N[self._sampled]
        hidden_B = self._hidden_rows(self._sample, allowed_S, len(self._sampled))

        def estimate(queries_QH: torch.Tensor) -> torch.Tensor:
            best_GQ = self._sample.best_of_groups(self._sample.products(queries_QH, hidden_B))
            return best_GQ.T.topk(place, dim=1).values[:, -1].clamp(min=LEAST)

        return list(apply(estimate, parts))

    def _block(self, start: int) -> "_Block":
        if start in self._kept:
            return self._kept[start]
        stop = min(start + self.block_rows, len(self.vectors))
        pieces = [torch.from_numpy(np.asarray(piece)) for piece in self.vectors.pieces(start, stop)]
        block = _Block.rounded(torch.cat(pieces).to(self.device), self._centre_H, self.dtype, start)
        if self.keeps_blocks:
            self._kept[start] = block
        return block

    def _hidden_rows(self, block: "_Block", allowed: np.ndarray | None, rows: int) -> torch.Tensor | None:
        """Rows of a block that no query may find: those not allowed, and those that fill up the last group."""
        hidden = np.ones(len(block.rows_BH), dtype=bool)
        hidden[:rows] = False if allowed is None else ~allowed
        return torch.from_numpy(np.flatnonzero(hidden)).to(self.device) if hidden.any() else None


@dataclass(frozen=True, eq=False)
class _Block:
    """Rounded rows in whole groups, the scale of each group, and the number of the first row."""

    rows_BH: torch.Tensor
    scales_G: torch.Tensor
    first: int

    @classmethod
    def rounded(cls, rows_BH: torch.Tensor, centre_H: torch.Tensor, dtype: torch.dtype, first: int) -> "_Block":
        rows, scales = [], []
        for part in rows_BH.split(ROWS_PER_ROUNDING):
            centred = part.float() - centre_H
            centred = torch.nn.functional.pad(centred, (0, 0, 0, -len(centred) % GROUP_ROWS))
            groups, group_scales = rounded_rows(centred.view(-1, GROUP_ROWS * centred.shape[1]), dtype)
            rows.append(groups.view(centred.shape))
            scales.append(group_scales)
        return cls(torch.cat(rows), torch.cat(scales), first)

    def products(self, queries_QH: torch.Tensor, hidden_B: torch.Tensor | None) -> torch.Tensor:
        if self.rows_BH.dtype == torch.int8:
            products_BQ = torch._int_mm(self.rows_BH, queries_QH.T)
        else:
            products_BQ = self.rows_BH @ queries_QH.T
        if hidden_B is not None:
            products_BQ[hidden_B] = NOTHING
        return products_BQ

    def best_of_groups(self, products_BQ: torch.Tensor) -> torch.Tensor:
        """GQ, times the scales."""
        groups_GRQ = products_BQ.view(-1, GROUP_ROWS, products_BQ.shape[1])
        return groups_GRQ.amax(1).float() * self.scales_G[:, None]


def product_type(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16
    # both are private, so a torch without them falls back
    if hasattr(torch, "_int_mm") and getattr(torch.cpu, "_is_vnni_supported", bool)():
        return torch.int8
    return torch.bfloat16 if good_at_bf16() else torch.float32


def rounded_rows(rows_BH: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in `dtype`, and what each has to be multiplied by: in 8 bits a row's largest value becomes 127."""
    if dtype != torch.int8:
        return rows_BH.to(dtype), torch.ones(len(rows_BH), device=rows_BH.device)
    scales_B = rows_BH.abs().amax(1).clamp(min=LEAST_VALUE) / LARGEST_INT8
    return (rows_BH / scales_B[:, None]).round_().to(torch.int8), scales_B


class _Best:
    """The best C rows so far of some queries, by products times the row's scale.

    What blocks have found waits until it is as wide as what is wanted, and is then merged: after the first, second,
    fourth, eighth ... block where good rows stand anywhere, after every block where they come last. In between the
    cutoff is an old one, which lets through too much, never too little.
    """

    def __init__(self, queries_QH: torch.Tensor, count: int, least_Q: torch.Tensor | None) -> None:
        """What scores less than `least_Q` is never kept, so that fewer than `count` may be found."""
        self.queries_QH, self.count, self.least_Q = queries_QH, count, least_Q
        device = queries_QH.device
        self._scores_QC = torch.zeros(len(queries_QH), 0, device=device)
        self._rows_QC = torch.zeros(len(queries_QH), 0, dtype=torch.int64, device=device)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._is_full = False

    def add(self, block: _Block, hidden_B: torch.Tensor | None) -> None:
        products_BQ = block.products(self.queries_QH, hidden_B)
        best_GQ = block.best_of_groups(products_BQ)
        cutoff_Q = self._cutoff(best_GQ)
        query_P, group_P = (best_GQ >= cutoff_Q).T.nonzero(as_tuple=True)
        scores_PR = _of_pairs(products_BQ, group_P, query_P).float() * block.scales_G[group_P, None]
        self._waiting.append(_by_query(query_P, group_P * GROUP_ROWS + block.first, scores_PR, cutoff_Q))
        if sum(scores.shape[1] for scores, _ in self._waiting) >= self.count:
            self.merged()

    def merged(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and rows, best first, filled up with -infinity."""
        scores = torch.cat([self._scores_QC, *(scores for scores, _ in self._waiting)], dim=1)
        rows = torch.cat([self._rows_QC, *(rows for _, rows in self._waiting)], dim=1)
        lacking = max(self.count - scores.shape[1], 0)
        scores = torch.nn.functional.pad(scores, (0, lacking), value=-torch.inf)
        rows = torch.nn.functional.pad(rows, (0, lacking), value=-1)
        self._scores_QC, order = torch.topk(scores, self.count, dim=1)
        self._rows_QC = rows.gather(1, order)
        self._waiting = []
        self._is_full = bool(self._scores_QC[:, -1].isfinite().all())
        return self._scores_QC, self._rows_QC

    def _cutoff(self, best_GQ: torch.Tensor) -> torch.Tensor:
        """What a row must score: as many rows as are wanted score at least that, one in each of as many groups."""
        if self._is_full:
            return self._scores_QC[:, -1]
        if self.least_Q is not None:
            return self.least_Q
        if len(best_GQ) < self.count:
            return torch.full((best_GQ.shape[1],), LEAST, device=best_GQ.device)
        return torch.topk(best_GQ.T, self.count, dim=1).values[:, -1].clamp(min=LEAST)


def _by_query(
    query_P: torch.Tensor, first_P: torch.Tensor, scores_PR: torch.Tensor, cutoff_Q: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores above the cutoff and their rows, a line for each query, filled up with -infinity."""
    pair_S, row_S = (scores_PR >= cutoff_Q[query_P, None]).nonzero(as_tuple=True)
    query_S = query_P[pair_S]
    counts_Q = torch.bincount(query_S, minlength=len(cutoff_Q))
    column_S = torch.arange(len(query_S), device=query_S.device) - (counts_Q.cumsum(0) - counts_Q)[query_S]
    shape = (len(cutoff_Q), int(counts_Q.max()))
    scores = torch.full(shape, -torch.inf, device=query_S.device)
    rows = torch.full(shape, -1, dtype=torch.int64, device=query_S.device)
    scores[query_S, column_S] = scores_PR[pair_S, row_S]
    rows[query_S, column_S] = first_P[pair_S] + row_S
    return scores, rows


def _of_pairs(products_BQ: torch.Tensor, group_P: torch.Tensor, query_P: torch.Tensor) -> torch.Tensor:
    """Each pair's products, one for each row of the group; twice as fast as indexing by both."""
    queries = products_BQ.shape[1]
    first_P = group_P * (GROUP_ROWS * queries) + query_P
    places_PR = first_P[:, None] + torch.arange(GROUP_ROWS, device=first_P.device) * queries
    return products_BQ.view(-1).index_select(0, places_PR.view(-1)).view(places_PR.shape)
