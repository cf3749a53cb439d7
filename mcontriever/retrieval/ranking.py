"""From rows to documents: a document ranks where its best row ranks."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.row_search import Answer


@dataclass(frozen=True)
class Ranking:
    """(document, score), best first, and each document's best row."""

    scores: list[tuple[int, float]]
    rows: dict[int, int]

    @classmethod
    def of_rows(
        cls, scores_K: np.ndarray, rows_K: np.ndarray, documents_N: np.ndarray | None, wanted: int
    ) -> "Ranking":
        """From rows with their scores, best first; row -1 is none."""
        rows = rows_K[rows_K >= 0]
        documents = rows if documents_N is None else documents_N[rows]
        best: dict[int, tuple[float, int]] = {}
        for document, score, row in zip(documents.tolist(), scores_K[rows_K >= 0].tolist(), rows.tolist(), strict=True):
            best.setdefault(document, (score, row))
        kept = list(best.items())[:wanted]
        return cls([(document, score) for document, (score, _) in kept], {doc: row for doc, (_, row) in kept})

    def without(self, document: int) -> "Ranking":
        rows = {other: row for other, row in self.rows.items() if other != document}
        return Ranking([pair for pair in self.scores if pair[0] != document], rows)

    @cached_property
    def places(self) -> dict[int, tuple[int, float]]:
        """document -> (rank from 1, score)."""
        return {document: (rank, score) for rank, (document, score) in enumerate(self.scores, start=1)}


def rank_documents(
    store: EmbeddingStore, answer: Answer, wanted: int, allowed_N: np.ndarray | None = None
) -> list[Ranking]:
    """A ranking for each query: the search goes deeper until it has seen enough different documents."""
    depth = wanted
    while True:
        scores_QK, rows_QK = answer.best(depth, allowed_N)
        rankings = [
            Ranking.of_rows(scores_K, rows_K, store.documents_N, wanted)
            for scores_K, rows_K in zip(scores_QK, rows_QK, strict=True)
        ]
        short = np.array([len(ranking.scores) < wanted for ranking in rankings])
        exhausted = rows_QK.shape[1] < depth or depth >= len(store) or (rows_QK[short] < 0).any(axis=1).all()
        if store.documents_N is None or exhausted:
            return rankings
        depth = min(depth * 4, len(store))
