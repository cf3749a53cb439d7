"""Search by BM25: texts become terms, and the store's BM25 index finds the best rows.

Shapes: Q queries, P given rows of a query (-1: none).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcontriever.retrieval.lexical_index import LexicalIndex, Term, open_lexical_index
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.texts.documents import Query


@dataclass(frozen=True, eq=False)
class LexicalSearch:
    """`as_shares`: scores are divided by the most that the query could reach, so queries can be compared."""

    store: EmbeddingStore
    index: LexicalIndex
    as_shares: bool = False

    @classmethod
    def open(
        cls, store: EmbeddingStore, terms: Term = "words", tokenizer: Any = None, *, as_shares: bool = False
    ) -> "LexicalSearch":
        return cls(store, open_lexical_index(store, terms, tokenizer), as_shares)

    def ask(self, queries: Sequence[Query]) -> "LexicalAnswer":
        return LexicalAnswer(self, [query.text for query in queries])


@dataclass(frozen=True, eq=False)
class LexicalAnswer:
    search: LexicalSearch
    texts: Sequence[str]

    def best(self, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        index, live_N = self.search.index, self.search.store.live_N
        find = index.search_shares if self.search.as_shares else index.search
        return find(self.texts, k, live_N if allowed_N is None else allowed_N)

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        """BM25 scores all rows of a query at once, so this costs as much as the search did."""
        scores_QP = self.search.index.scores_of(self.texts, rows_QP)
        if self.search.as_shares:
            scores_QP /= self.search.index.attainable(self.texts)[:, None]
        return scores_QP
