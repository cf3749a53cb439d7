"""The best rows so far of some queries, while block after block of rows goes by.

A bf16 number has 8 bits, so it tells 0.801 from 0.802 badly, but 0.001 from 0.002 well. Each query therefore carries
one more column, minus the score that a row has to beat by now, against a column of ones: what matters lies near zero.

Shapes: Q queries, H dimensions, B rows of a block, C rows kept, G groups of R rows, P pairs of a query and a group.
"""

import torch

EXTRA_COLUMNS = 8  # one is used; the others keep the rows' length a multiple of what processors like
GROUP_ROWS = 64


class RunningBest:
    """The best C rows so far of some queries.

    No row that was passed over seemed to score more than `unseen_Q`, the rounding of what it seemed counted in.
    """

    def __init__(self, queries_QH: torch.Tensor, count: int, dtype: torch.dtype) -> None:
        self.count = count
        self.dimension = queries_QH.shape[1]
        self.widened_QH = torch.nn.functional.pad(queries_QH, (0, EXTRA_COLUMNS)).to(dtype)
        self.rounding = torch.finfo(dtype).eps / 2
        self.scores_QC = torch.zeros(len(queries_QH), 0)
        self.rows_QC = torch.zeros(len(queries_QH), 0, dtype=torch.int64)
        self.unseen_Q = torch.full((len(queries_QH),), -torch.inf)

    @property
    def shift_Q(self) -> torch.Tensor:
        """What is taken off all scores for now, so that those which matter lie near zero."""
        return -self.widened_QH[:, self.dimension].float()

    def add(self, block_BH: torch.Tensor, rows_B: torch.Tensor) -> None:
        self.take(block_BH @ self.widened_QH.T, rows_B)

    def take(self, scores_BQ: torch.Tensor, rows_B: torch.Tensor) -> None:
        """Look at shifted scores of rows that were not seen before."""
        shift_Q = self.shift_Q
        found = _above_zero(scores_BQ, self.count) if self._is_full() else None
        if found is None:
            top = torch.topk(scores_BQ.T.float(), min(self.count, len(rows_B)), dim=1)
            found = top.values, top.indices
        scores = torch.cat([self.scores_QC, found[0] + shift_Q[:, None]], dim=1)
        rows = torch.cat([self.rows_QC, rows_B[found[1]]], dim=1)
        self.scores_QC, order = torch.topk(scores, min(self.count, scores.shape[1]), dim=1)
        self.rows_QC = rows.gather(1, order)
        if self._is_full():
            cutoff_Q = self.scores_QC[:, -1]
            rounded_Q = self.rounding * (cutoff_Q - shift_Q).abs()
            self.unseen_Q = torch.maximum(self.unseen_Q, cutoff_Q + rounded_Q)
            self.widened_QH[:, self.dimension] = -cutoff_Q

    def _is_full(self) -> bool:
        return self.scores_QC.shape[1] == self.count


def _above_zero(scores_BQ: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Each query's scores above 0 and their places, filled up with -infinity; None if there are too many to gain by it.

    Nearly all groups of rows can be passed over by their largest score alone.
    """
    rows, queries = scores_BQ.shape
    if rows % GROUP_ROWS:
        scores_BQ = torch.nn.functional.pad(scores_BQ, (0, 0, 0, GROUP_ROWS - rows % GROUP_ROWS))
    groups_GRQ = scores_BQ.view(-1, GROUP_ROWS, queries)
    query_P, group_P = (groups_GRQ.amax(1) > 0).T.nonzero(as_tuple=True)
    if len(query_P) > most * queries:
        return None
    scores_PR = groups_GRQ[group_P, :, query_P].float()
    pair_S, row_S = (scores_PR > 0).nonzero(as_tuple=True)
    query_S = query_P[pair_S]
    counts_Q = torch.bincount(query_S, minlength=queries)
    column_S = torch.arange(len(query_S)) - (counts_Q.cumsum(0) - counts_Q)[query_S]
    width = int(counts_Q.max())
    scores = torch.full((queries, width), -torch.inf)
    places = torch.zeros((queries, width), dtype=torch.int64)
    scores[query_S, column_S] = scores_PR[pair_S, row_S]
    places[query_S, column_S] = group_P[pair_S] * GROUP_ROWS + row_S
    return scores, places
