"""From queries to ranked documents: every part answers, their rankings are fused, a cross-encoder may reorder the best.

`mcontriever search`, `Index` and the benchmarks over a store all go this way. N: rows of the store.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from mcontriever.retrieval.fusion import Fusion, fuse
from mcontriever.retrieval.ranking import Ranking, rank_documents
from mcontriever.retrieval.rerank import Reranker
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.row_search import RowSearch
from mcontriever.texts.documents import Query


@dataclass(frozen=True)
class RankedDocument:
    """`row` is its best passage's; `parts` says what put it where it is."""

    document: int
    row: int
    score: float
    parts: dict[str, float]
    confidence: float | None = None


@dataclass(frozen=True, kw_only=True)
class CombinedSearch:
    """`dense` and `lexical` are searches over the same store by name; `depth` documents are fused and re-ranked."""

    store: EmbeddingStore
    dense: Mapping[str, RowSearch] = field(default_factory=dict)
    lexical: Mapping[str, RowSearch] = field(default_factory=dict)
    fusion: Fusion = "rrf"
    dense_weight: float | None = None
    reranker: Reranker | None = None
    depth: int = 100

    def rank(
        self, queries: Sequence[Query], k: int, allowed_N: np.ndarray | None = None
    ) -> Iterator[list[RankedDocument]]:
        """The best k documents of each query, among the rows allowed."""
        is_deeper = len(self.dense) + len(self.lexical) > 1 or self.reranker is not None
        wanted = max(self.depth, k) if is_deeper else k
        found = {
            name: rank_documents(self.store, search.ask(queries), wanted, allowed_N)
            for name, search in chain(self.dense.items(), self.lexical.items())
        }
        for number, query in enumerate(queries):
            yield self._ranked(query, k, {name: rankings[number] for name, rankings in found.items()})

    def _ranked(self, query: Query, k: int, found: Mapping[str, Ranking]) -> list[RankedDocument]:
        order = fuse(
            [found[name].scores for name in self.dense],
            [found[name].scores for name in self.lexical],
            self.fusion,
            self.dense_weight,
        )
        rows, fused = _best_rows(list(found.values())), dict(order)
        ranked = [
            RankedDocument(document, rows[document], score, _why(document, found, fused)) for document, score in order
        ]
        if self.reranker is not None:
            ranked = rerank_best(self.reranker, self.store, query, ranked, self.depth)
        return ranked[:k]


def rerank_best(
    reranker: Reranker, store: EmbeddingStore, query: Query, ranked: Sequence[RankedDocument], depth: int
) -> list[RankedDocument]:
    """A cross-encoder reorders the first `depth`; the others follow."""
    passages = store.passages_of([one.row for one in ranked[:depth]])
    order = reranker.rerank(query.text, [(one.document, one.score) for one in ranked], passages)
    known, read = {one.document: one for one in ranked}, len(passages)
    return [
        replace(
            known[document],
            score=score,
            parts={**known[document].parts, **({"reranker": score} if place < read else {})},
        )
        for place, (document, score) in enumerate(order)
    ]


def _why(document: int, found: Mapping[str, Ranking], fused: Mapping[int, float]) -> dict[str, float]:
    """What each part of the search said of a document."""
    parts: dict[str, float] = {}
    for name, ranking in found.items():
        if document in ranking.places:
            rank, score = ranking.places[document]
            parts |= {name: score, f"{name}_rank": rank}
    if len(found) > 1:
        parts["fused"] = fused[document]
    return parts


def _best_rows(found: Sequence[Ranking]) -> dict[int, int]:
    """The row to show for each document: the first ranking's, where it has one."""
    return {document: row for ranking in reversed(found) for document, row in ranking.rows.items()}
