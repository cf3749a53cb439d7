"""Search for many queries and deep rankings, as mining needs it; scores are usually right to two thousandths.

Rows and queries are rounded (rounded_block.py), and nothing is scored again. Each core multiplies its own blocks of
rows by hundreds of queries at a time and keeps only what may be among a query's best (best_rows.py). The threshold
comes from a sample of the rows at first, then from what was found.

Shapes: N rows of the store, Q queries, H dimensions, K wanted, R rows asked about, G groups of rows.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from mcontriever.core_pool import side_by_side
from mcontriever.retrieval.vector_search.best_rows import BestRows, best_of, nth_best
from mcontriever.retrieval.vector_search.rounded_block import (
    GROUP_ROWS,
    RoundedBlock,
    product_type,
    scale_,
    whole_groups,
)
from mcontriever.retrieval.vector_search.vectors import ArrayVectors, Vectors

BLOCK_ROWS = 16_384
BLOCK_ROWS_IN_FLOAT32 = 4096  # all products of a block are made at once, and must fit into the cache
BLOCK_ROWS_ON_GPU = 65_536  # starting a product costs more there
QUERIES_PER_PRODUCT = 512
QUERIES_THAT_KEEP_ALL = 32  # at a time, if more rows are wanted than a block has groups
SAMPLED_ROWS = 8192
WORTH_A_SAMPLE = 8  # the sample is used if there are this many times as many rows


class RoughSearch:
    """Keeps the rounded rows if all of them fit into half of the memory budget."""

    def __init__(
        self,
        vectors: Vectors,
        *,
        memory_bytes: int,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.vectors, self.device = vectors, torch.device(device)
        self.dtype = product_type(self.device, vectors.dimension) if dtype is None else dtype
        on_cpu = self.device.type == "cpu"
        self.cores = torch.get_num_threads() if on_cpu else 1
        row_bytes = (self.dtype.itemsize * vectors.dimension + 4 * QUERIES_PER_PRODUCT) * self.cores
        most_rows = BLOCK_ROWS_ON_GPU
        if on_cpu:
            most_rows = BLOCK_ROWS_IN_FLOAT32 if self.dtype == torch.float32 else BLOCK_ROWS
        self.block_rows = int(np.clip(memory_bytes // 2 // row_bytes, GROUP_ROWS, most_rows))
        self.block_rows -= self.block_rows % GROUP_ROWS
        self.keeps_blocks = fit_into(memory_bytes // 2, vectors, self.dtype)
        self._kept: dict[int, RoundedBlock] = {}
        self._scales_G = np.zeros(-(-len(vectors) // GROUP_ROWS), dtype=np.float32)
        self._sampled = np.linspace(0, len(vectors) - 1, min(SAMPLED_ROWS, len(vectors))).astype(np.int64)
        sample = ArrayVectors(vectors.take(self._sampled))
        self._centre_H = torch.from_numpy(sample.vectors_NH).to(self.device).mean(0)
        if self.dtype == torch.float32:
            self._centre_H.zero_()  # these rows are not rounded, so they are not centred
        self._sample = RoundedBlock.of(sample, 0, len(sample), self._centre_H, self._empty(len(sample)))

    def search(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first; rows that are not allowed are skipped."""
        k = min(k, len(self.vectors) if allowed_N is None else int(np.count_nonzero(allowed_N)))
        if k == 0 or not len(queries_QH):
            return np.zeros((len(queries_QH), k), np.float32), np.zeros((len(queries_QH), k), np.int64)
        queries = torch.from_numpy(np.ascontiguousarray(queries_QH, dtype=np.float32)).to(self.device)
        scaled_QH = queries.clone()
        scales_Q = scale_(scaled_QH, self.dtype)
        rounded_QH = scaled_QH.to(self.dtype)
        off_centre_QK, rows_QK = self._best(rounded_QH, k, allowed_N, self._place_in_sample(k))
        missing_Q = ~np.isfinite(off_centre_QK[:, -1])
        if missing_Q.any():
            again_QH = rounded_QH[torch.from_numpy(missing_Q)]
            off_centre_QK[missing_Q], rows_QK[missing_Q] = self._best(again_QH, k, allowed_N, None)
        centre_Q = (queries @ self._centre_H).cpu().numpy()
        return off_centre_QK * scales_Q.cpu().numpy()[:, None] + centre_Q[:, None], rows_QK

    def scales_of(self, rows_R: np.ndarray) -> np.ndarray:
        """The rounding step of rows that were searched."""
        return self._scales_G[rows_R // GROUP_ROWS]

    @property
    def coarsest(self) -> float:
        return float(self._scales_G.max(initial=0))

    def _place_in_sample(self, k: int) -> int | None:
        """The rank in the sample whose score more than k of all rows reach; None if no sample is used.

        About `expected` of the k best rows are in the sample. Four standard deviations are added, so this is almost
        never wrong; if it is, the query is searched again without a threshold.
        """
        expected = k * len(self._sampled) / len(self.vectors)
        place = math.ceil(expected + 4 * math.sqrt(expected)) + 1
        is_worth_it = len(self.vectors) >= WORTH_A_SAMPLE * SAMPLED_ROWS
        return place if is_worth_it and place <= len(self._sample.scales_G) else None

    def _best(
        self, queries_QH: torch.Tensor, k: int, allowed_N: np.ndarray | None, place: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Products times the rows' scales, and rows; padded with -infinity where too few rows reach the threshold.

        Each core has its own rows, the same ones every time.
        """
        narrows_at_once = place is not None or k <= self.block_rows // GROUP_ROWS
        parts = queries_QH.split(QUERIES_PER_PRODUCT if narrows_at_once else QUERIES_THAT_KEEP_ALL)
        starts = range(0, len(self.vectors), self.block_rows)
        cores = min(self.cores, len(starts))
        least = self._least_scores(parts, place, allowed_N)

        def search_share(core: int) -> list[BestRows]:
            bests = [BestRows(part_QH, k, least_Q) for part_QH, least_Q in zip(parts, least, strict=True)]
            products = self._memory_for_products(self.block_rows, parts)
            buffer = None if self.keeps_blocks else self._empty(self.block_rows)
            for start in starts[core::cores]:
                block = self._block(start, buffer)
                hidden = block.hidden(None if allowed_N is None else allowed_N[start : start + block.count])
                for best in bests:
                    best.add(block, hidden, products)
            return bests

        shares = list(side_by_side(cores, self.device)(search_share, range(cores)))
        found = [best_of(some) for some in zip(*shares, strict=True)]
        return np.concatenate([scores for scores, _ in found]), np.concatenate([rows for _, rows in found])

    def _least_scores(
        self, parts: Sequence[torch.Tensor], place: int | None, allowed_N: np.ndarray | None
    ) -> Sequence[np.ndarray | None]:
        if place is None:
            return [None] * len(parts)
        hidden = self._sample.hidden(None if allowed_N is None else allowed_N[self._sampled])

        def least(part_QH: torch.Tensor) -> np.ndarray:
            products = self._memory_for_products(len(self._sampled), parts)
            return nth_best(self._sample.multiply(part_QH, hidden, products)[0], place)

        return list(side_by_side(len(parts), self.device)(least, parts))

    def _memory_for_products(self, rows: int, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        dtype = torch.int32 if self.dtype == torch.int8 else self.dtype
        return torch.empty(whole_groups(rows) * len(parts[0]), dtype=dtype, device=self.device)

    def _block(self, start: int, buffer: torch.Tensor | None) -> RoundedBlock:
        if start in self._kept:
            return self._kept[start]
        stop = min(start + self.block_rows, len(self.vectors))
        into = self._empty(stop - start) if buffer is None else buffer
        block = RoundedBlock.of(self.vectors, start, stop, self._centre_H, into)
        self._scales_G[start // GROUP_ROWS :][: len(block.scales_G)] = block.scales_G.cpu().numpy()
        if self.keeps_blocks:
            self._kept[start] = block
        return block

    def _empty(self, rows: int) -> torch.Tensor:
        return torch.empty(whole_groups(rows), self.vectors.dimension, dtype=self.dtype, device=self.device)


def fit_into(memory_bytes: int, vectors: Vectors, dtype: torch.dtype) -> bool:
    """Whether all rows fit when rounded to `dtype`."""
    return len(vectors) * vectors.dimension * dtype.itemsize <= memory_bytes
