"""The result of mining a block of queries, as arrays: miner.py fills it, mined_records.py writes it.

Shapes: Q queries, K candidates of each, P positives of a query at most, n negatives taken of it at most.
"""

from dataclasses import dataclass, field

import numpy as np

from mcontriever.finetuning.mining.hard_negatives import NO_KEY
from mcontriever.finetuning.mining.mining_statistics import PartStatistics, rank_counts, sampled
from mcontriever.texts.documents import Document

NO_ROW = -1


@dataclass(frozen=True, eq=False)
class TakenPassages:
    """Passages that one searcher took: rows of the store (NO_ROW: none), ranks, scores, a teacher's (NaN: none)."""

    source: str
    rows_Qn: np.ndarray
    ranks_Qn: np.ndarray
    scores_Qn: np.ndarray
    teacher_Qn: np.ndarray

    def first(self, count: int, kept_Qn: np.ndarray) -> "TakenPassages":
        """The first `count` of those kept, moved to the left."""
        order_Qn = np.argsort(~kept_Qn, axis=1, kind="stable")[:, :count]
        kept_Qn = np.take_along_axis(kept_Qn, order_Qn, axis=1)
        rows, ranks, scores, teacher = (
            np.take_along_axis(values, order_Qn, axis=1)
            for values in (self.rows_Qn, self.ranks_Qn, self.scores_Qn, self.teacher_Qn)
        )
        return TakenPassages(self.source, np.where(kept_Qn, rows, NO_ROW), ranks, scores, teacher)


@dataclass(eq=False)
class MinedBlock:
    """Queries, their positives, the negatives taken for them, and statistics."""

    ids: list[str]
    questions: list[str]
    languages: list[str]
    positives: list[list[Document]]
    positive_keys_QP: np.ndarray
    positive_scores: dict[str, np.ndarray] = field(default_factory=dict)
    positive_teacher_QP: np.ndarray | None = None
    negatives: list[TakenPassages] = field(default_factory=list)
    pseudo_positives: list[TakenPassages] = field(default_factory=list)  # of queries without a label
    statistics: PartStatistics = field(default_factory=PartStatistics)

    def count_ranks_of_positives(self, keys_QK: np.ndarray) -> None:
        """Where a search found the first of an example's positives."""
        is_positive_QK = np.zeros(keys_QK.shape, dtype=bool)
        for key_Q in self.positive_keys_QP.T:
            is_positive_QK |= (keys_QK == key_Q[:, None]) & (key_Q != NO_KEY)[:, None]
        ranks_Q = np.where(is_positive_QK.any(axis=1), is_positive_QK.argmax(axis=1) + 1, 0)
        self.statistics.positive_ranks.update(rank_counts(ranks_Q))

    @property
    def is_answered_Q(self) -> np.ndarray:
        """Whether a query has a positive, labelled or pseudo-labelled."""
        found_Q = np.array([bool(some) for some in self.positives])
        for passages in self.pseudo_positives:
            found_Q |= (passages.rows_Qn != NO_ROW).any(axis=1)
        return found_Q

    def count_taken(self) -> None:
        statistics = self.statistics
        statistics.unanswered = int((~self.is_answered_Q).sum())
        statistics.examples = len(self.questions)
        for negatives in self.negatives:
            taken_Qn = negatives.rows_Qn != NO_ROW
            statistics.negatives += int(taken_Qn.sum())
            statistics.sources[negatives.source] += int(taken_Qn.sum())
            statistics.negative_ranks.update(rank_counts(negatives.ranks_Qn[taken_Qn]))
            statistics.negative_scores[negatives.source] = sampled(negatives.scores_Qn[taken_Qn])
        for source, scores_QP in self.positive_scores.items():
            statistics.positive_scores[source] = sampled(scores_QP[np.isfinite(scores_QP)])
