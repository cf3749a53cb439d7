"""The best rows so far of some queries, updated with one block of rounded rows after another.

Only the best product of a group of rows is compared with the query's threshold; the group's other rows are looked at
only if it passes, and few groups do. What the blocks find is collected and merged when there is enough of it. Until the
next merge the threshold is out of date, which lets through too many rows, never too few. Everything but the products is
done in numpy, which finds and partitions many times faster than torch.

Shapes: Q queries, H dimensions, G groups of R rows, C rows wanted, P pairs of a group and a query, S rows found.
"""

from collections.abc import Sequence

import numpy as np
import torch

from mcontriever.retrieval.vector_search.rounded_block import GROUP_ROWS, RoundedBlock

LEAST = -1e30  # less than the score of any row that is not hidden


class BestRows:
    """`scores_QC` and `rows_QC` as of the last merge, unordered and padded with -infinity."""

    def __init__(self, queries_QH: torch.Tensor, count: int, least_Q: np.ndarray | None = None) -> None:
        """Rows that score less than `least_Q` are not kept, so fewer than `count` may be found."""
        self.queries_QH, self.count = queries_QH, count
        self.scores_QC = np.zeros((len(queries_QH), 0), dtype=np.float32)
        self.rows_QC = np.zeros((len(queries_QH), 0), dtype=np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._threshold_Q = least_Q

    def add(self, block: RoundedBlock, hidden: torch.Tensor, products: torch.Tensor) -> None:
        """Update with one more block; `products` is memory to work in."""
        best_GQ, products_BQ = block.multiply(self.queries_QH, hidden, products)
        threshold_Q = self._threshold(best_GQ)
        places_P = _true_places(best_GQ >= torch.from_numpy(threshold_Q).to(best_GQ.device))
        group_P, query_P = places_P // len(threshold_Q), places_P % len(threshold_Q)
        products_PR = _of_pairs(products_BQ, group_P, query_P)
        scores_PR = block.scores(products_PR, group_P).cpu().numpy()
        query_of_P, first_P = query_P.cpu().numpy(), group_P.cpu().numpy() * GROUP_ROWS + block.first
        places_S = np.flatnonzero(scores_PR >= threshold_Q[query_of_P, None])
        pair_S, row_S = places_S // GROUP_ROWS, first_P[places_S // GROUP_ROWS] + places_S % GROUP_ROWS
        self._waiting.append(_by_query(query_of_P[pair_S], scores_PR.ravel()[places_S], row_S, len(threshold_Q)))
        if sum(scores.shape[1] for scores, _ in self._waiting) >= self.count:
            self.merge()

    def merge(self) -> None:
        found = [(self.scores_QC, self.rows_QC), *self._waiting]
        self.scores_QC, self.rows_QC = _best(found, self.count)
        self._waiting = []
        lowest_Q = self.scores_QC.min(axis=1)
        if self._threshold_Q is not None:
            self._threshold_Q = np.maximum(self._threshold_Q, lowest_Q)
        elif np.isfinite(lowest_Q).all():
            self._threshold_Q = lowest_Q

    def _threshold(self, best_GQ: torch.Tensor) -> np.ndarray:
        """The score a row needs: at least `count` rows reach it, one in each of `count` groups."""
        if self._threshold_Q is not None:
            return self._threshold_Q
        if len(best_GQ) < self.count:
            return np.full(best_GQ.shape[1], LEAST, dtype=np.float32)
        return nth_best(best_GQ, self.count)


def best_of(bests: Sequence[BestRows]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows found by several searches for the same queries, best first."""
    for best in bests:
        best.merge()
    count = bests[0].count
    return in_order(*_best([(best.scores_QC, best.rows_QC) for best in bests], count), count)


def nth_best(best_GQ: torch.Tensor, place: int) -> np.ndarray:
    """For each query, the n-th highest of the groups' best scores."""
    best_QG = best_GQ.T.contiguous().cpu().numpy()
    nth_Q = np.partition(best_QG, best_QG.shape[1] - place, axis=1)[:, best_QG.shape[1] - place]
    return np.maximum(nth_Q, np.float32(LEAST))


def in_order(scores_QC: np.ndarray, rows_QC: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The best, best first; of equal scores the lower row first."""
    order_QK = np.lexsort((rows_QC, -scores_QC))[:, :count]
    return np.take_along_axis(scores_QC, order_QK, axis=1), np.take_along_axis(rows_QC, order_QK, axis=1)


def in_any_order(scores_QC: np.ndarray, rows_QC: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same rows unordered, which is much faster; all rows if there are no more."""
    excess = scores_QC.shape[1] - count
    if excess <= 0:
        return scores_QC, rows_QC
    bits_QC = scores_QC.view(np.int32).astype(np.int64)
    rising_QC = np.where(bits_QC < 0, -(bits_QC & 0x7FFFFFFF), bits_QC)  # integers in the order of the scores
    best_QK = np.argpartition((rising_QC << 32) - rows_QC, excess, axis=1)[:, excess:]
    return np.take_along_axis(scores_QC, best_QK, axis=1), np.take_along_axis(rows_QC, best_QK, axis=1)


def among_best(scores_QB: np.ndarray, count: int) -> np.ndarray:
    """Columns that hold one of the `count` best scores of any query, or a score equal to its last."""
    place = scores_QB.shape[1] - count
    if place <= 0:
        return np.arange(scores_QB.shape[1])
    least_Q1 = np.partition(scores_QB, place, axis=1)[:, place, None]
    return np.flatnonzero((scores_QB >= least_Q1).any(axis=0))


def _best(found: Sequence[tuple[np.ndarray, np.ndarray]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unordered and padded with -infinity."""
    scores, rows = (np.concatenate(values, axis=1) for values in zip(*found, strict=True))
    scores, rows = in_any_order(scores, rows, count)
    filling = ((0, 0), (0, count - scores.shape[1]))
    return np.pad(scores, filling, constant_values=-np.inf), np.pad(rows, filling, constant_values=-1)


def _true_places(values: torch.Tensor) -> torch.Tensor:
    if values.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(values.numpy()))
    return values.view(-1).nonzero()[:, 0]


def _of_pairs(products_BQ: torch.Tensor, group_P: torch.Tensor, query_P: torch.Tensor) -> torch.Tensor:
    """The products of each pair, one for each row of the group; twice as fast as indexing by both."""
    queries = products_BQ.shape[1]
    first_P = group_P * (GROUP_ROWS * queries) + query_P
    places_PR = first_P[:, None] + torch.arange(GROUP_ROWS, device=first_P.device) * queries
    return products_BQ.view(-1).index_select(0, places_PR.view(-1)).view(places_PR.shape)


def _by_query(
    query_S: np.ndarray, score_S: np.ndarray, row_S: np.ndarray, queries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows with a line for each query, padded with -infinity."""
    order_S = np.argsort(query_S.astype(np.uint16), kind="stable")  # 16 bits, so numpy uses its fast radix sort
    query_S = query_S[order_S]
    counts_Q = np.bincount(query_S, minlength=queries)
    column_S = np.arange(len(query_S)) - (counts_Q.cumsum() - counts_Q)[query_S]
    scores = np.full((queries, counts_Q.max()), -np.inf, dtype=np.float32)
    rows = np.full(scores.shape, -1, dtype=np.int64)
    scores[query_S, column_S] = score_S[order_S]
    rows[query_S, column_S] = row_S[order_S]
    return scores, rows
