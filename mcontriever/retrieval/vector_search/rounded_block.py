"""Rows rounded for fast products: to 8 bits where the processor multiplies them fast, else to bf16 or fp32.

The rows' mean is subtracted first. It changes no ranking, but in embeddings that share a direction it makes up most of
a score, and would cause most of the error. The rows of a group share one scale.

Shapes: B rows of a block in G groups of R rows, H dimensions, Q queries.
"""

from dataclasses import dataclass

import numpy as np
import torch

from mcontriever.cpu_operators import has_int8_product, multiply_float32, multiply_rows
from mcontriever.processor import multiplies_bf16
from mcontriever.retrieval.vector_search.vectors import Vectors

GROUP_ROWS = 16
# Small enough on a CPU that rows being rounded, and products until the best of each group is known, stay in the cache.
# On a GPU starting an operation costs more.
VALUES_AT_ONCE = {"cpu": 3 << 19, "cuda": 1 << 26}
PRODUCTS_AT_ONCE = {"cpu": 1 << 19, "cuda": 1 << 26}
LARGEST_INT8, LEAST_VALUE = 127, 1e-6


@dataclass(frozen=True, eq=False)
class RoundedBlock:
    """Rounded rows in whole groups (the last is padded), the scale of each group, and the first row's number."""

    rows_BH: torch.Tensor
    scales_G: torch.Tensor
    first: int
    count: int

    @classmethod
    def of(
        cls, vectors: Vectors, first: int, stop: int, centre_H: torch.Tensor, into_BH: torch.Tensor
    ) -> "RoundedBlock":
        """Rows first to stop minus `centre_H`, written to `into_BH` and rounded to its type; in float32 as they are."""
        if into_BH.dtype == torch.float32:
            rows_BH = _float32_rows(vectors, first, stop, into_BH)
            return cls(rows_BH, torch.ones(len(rows_BH) // GROUP_ROWS), first, stop - first)
        rows_BH = into_BH[: whole_groups(stop - first)]
        step = whole_groups(VALUES_AT_ONCE[rows_BH.device.type] // rows_BH.shape[1])
        work_PH = torch.empty(min(step, len(rows_BH)), rows_BH.shape[1], device=rows_BH.device)
        scales = []
        for start in range(0, len(rows_BH), step):
            part_PH = rows_BH[start : start + step]
            centred_PH = work_PH[: len(part_PH)]
            filled = 0
            for piece in vectors.pieces(first + start, min(first + start + len(part_PH), stop)):
                rows = torch.from_numpy(np.asarray(piece)).to(work_PH.device)
                torch.sub(rows, centre_H, out=centred_PH[filled : filled + len(rows)])
                filled += len(rows)
            centred_PH[filled:] = 0
            scales.append(scale_(centred_PH.view(-1, GROUP_ROWS * centred_PH.shape[1]), part_PH.dtype))
            part_PH.copy_(centred_PH)
        return cls(rows_BH, torch.cat(scales), first, stop - first)

    def hidden(self, allowed: np.ndarray | None) -> torch.Tensor:
        """Numbers within the block of rows that no query may find: not allowed, or padding."""
        hidden_B = np.ones(len(self.rows_BH), dtype=bool)
        hidden_B[: self.count] = False if allowed is None else ~allowed
        return torch.from_numpy(np.flatnonzero(hidden_B)).to(self.rows_BH.device)

    def multiply(
        self, queries_QH: torch.Tensor, hidden: torch.Tensor, into: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """best_GQ, the best product of each group times its scale, and products_BQ.

        Products are written to `into`: allocating memory of this size took as long as they do. In float32 on a CPU they
        are not: oneDNN's product is faster than any that writes to given memory, and such blocks are small.
        """
        best_GQ = torch.empty(len(self.scales_G), len(queries_QH), device=into.device)
        if self.rows_BH.dtype == torch.float32 and into.device.type == "cpu":
            products_BQ = multiply_float32(self.rows_BH, queries_QH)
            self._best_of_groups(products_BQ, 0, hidden, best_GQ)
            return best_GQ, products_BQ
        products_BQ = into[: len(self.rows_BH) * len(queries_QH)].view(-1, len(queries_QH))
        step = whole_groups(PRODUCTS_AT_ONCE[into.device.type] // len(queries_QH))
        for start in range(0, len(self.rows_BH), step):
            products_PQ = products_BQ[start : start + step]
            multiply_rows(self.rows_BH[start : start + step], queries_QH, products_PQ)
            self._best_of_groups(products_PQ, start, hidden, best_GQ)
        return best_GQ, products_BQ

    def _best_of_groups(
        self, products_PQ: torch.Tensor, start: int, hidden: torch.Tensor, best_GQ: torch.Tensor
    ) -> None:
        stop = start + len(products_PQ)
        if len(hidden):
            bounds = torch.searchsorted(hidden, torch.tensor([start, stop], device=hidden.device))
            products_PQ[hidden[bounds[0] : bounds[1]] - start] = _nothing(products_PQ.dtype)
        groups = slice(start // GROUP_ROWS, stop // GROUP_ROWS)
        best_of_each = products_PQ.view(-1, GROUP_ROWS, products_PQ.shape[1]).amax(1)
        torch.mul(best_of_each, self.scales_G[groups, None], out=best_GQ[groups])
        if len(hidden):
            best_GQ[groups].masked_fill_(best_of_each == _nothing(products_PQ.dtype), -torch.inf)

    def scores(self, products_PR: torch.Tensor, group_P: torch.Tensor) -> torch.Tensor:
        """A line for each group; -infinity for hidden rows."""
        scores_PR = products_PR.float() * self.scales_G[group_P, None]
        return scores_PR.masked_fill_(products_PR == _nothing(products_PR.dtype), -torch.inf)


def _float32_rows(vectors: Vectors, first: int, stop: int, into_BH: torch.Tensor) -> torch.Tensor:
    """The mapped rows themselves, or a copy if they have another type, several pieces, or an incomplete last group."""
    rows_BH, filled = into_BH[: whole_groups(stop - first)], 0
    for piece in vectors.pieces(first, stop):
        if len(piece) == len(rows_BH) and piece.dtype == np.float32 and rows_BH.device.type == "cpu":
            return torch.from_numpy(np.asarray(piece))
        rows_BH[filled : filled + len(piece)] = torch.from_numpy(np.asarray(piece))
        filled += len(piece)
    rows_BH[filled:] = 0
    return rows_BH


def _nothing(dtype: torch.dtype) -> float:
    """The product of a hidden row; no other product is as low."""
    return torch.iinfo(dtype).min if dtype == torch.int32 else -torch.inf


def whole_groups(rows: int) -> int:
    """Rounded up to whole groups."""
    return -(-max(rows, 1) // GROUP_ROWS) * GROUP_ROWS


def product_type(device: torch.device, dimension: int) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16
    if dimension > 1 and has_int8_product():  # torch's product is wrong for one dimension
        return torch.int8
    return torch.bfloat16 if multiplies_bf16() else torch.float32


def scale_(rows_RH: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Scale rows in place so that `dtype` can hold them; returns the scales that undo it.

    In 8 bits a row's largest value becomes 127.
    """
    if dtype != torch.int8:
        return torch.ones(len(rows_RH), device=rows_RH.device)
    largest_R = torch.maximum(rows_RH.amax(1), rows_RH.amin(1).neg_())
    scales_R = largest_R.clamp_(min=LEAST_VALUE).div_(LARGEST_INT8)
    rows_RH.mul_(scales_R.reciprocal()[:, None]).round_()
    return scales_R
