"""Rankings of documents, out of searches over rows: a document stands where its best row stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mcontriever.retrieval.store.embedding_store import EmbeddingStore, RowSearch


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

    @cached_property
    def places(self) -> dict[int, tuple[int, float]]:
        """document -> (rank from 1, score)."""
        return {document: (rank, score) for rank, (document, score) in enumerate(self.scores, start=1)}


def rank_documents(
    store: EmbeddingStore,
    search: RowSearch,
    queries: Any,
    count: int,
    wanted: int,
    allowed_N: np.ndarray | None,
) -> list[Ranking]:
    """A ranking for each of `count` queries: the search goes deeper until it has seen enough different documents."""
    depth = wanted
    while True:
        scores_QK, rows_QK = search(queries, depth, allowed_N)
        rankings = [
            Ranking.of_rows(scores_QK[number], rows_QK[number], store.documents_N, wanted) for number in range(count)
        ]
        short = np.array([len(ranking.scores) < wanted for ranking in rankings])
        exhausted = rows_QK.shape[1] < depth or depth >= len(store) or (rows_QK[short] < 0).any(axis=1).all()
        if store.documents_N is None or exhausted:
            return rankings
        depth = min(depth * 4, len(store))


def why(
    document: int, found: Mapping[str, Ranking], fused: Mapping[int, float], reranked: Mapping[int, float]
) -> dict[str, float]:
    """What each part of the search said of a document."""
    parts: dict[str, float] = {}
    for name, ranking in found.items():
        if document in ranking.places:
            rank, score = ranking.places[document]
            parts |= {name: score, f"{name}_rank": rank}
    if len(found) > 1:
        parts["fused"] = fused[document]
    if reranked:
        parts["reranker"] = reranked[document]
    return parts


def best_rows(found: Sequence[Ranking]) -> dict[int, int]:
    """The row to show for each document: the first ranking's, where it has one."""
    return {document: row for ranking in reversed(found) for document, row in ranking.rows.items()}
