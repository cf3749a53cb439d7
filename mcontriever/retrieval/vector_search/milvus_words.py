"""Milvus's own BM25 over our terms, for stores whose BM25 index no machine could hold (Milvus 2.5 and later).

It counts the same terms as our own BM25, in every language and script. Shapes: Q queries, K wanted, P given rows of a
query (-1: none).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcontriever.progress import log
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.terms import REVISION, index_terms
from mcontriever.retrieval.vector_search.milvus import MilvusIndex, language_filter, rows_found
from mcontriever.retrieval.vector_search.milvus_collection import coded
from mcontriever.texts.documents import Query


@dataclass(frozen=True, eq=False)
class MilvusWords:
    store: EmbeddingStore
    client: Any
    collection: str

    @classmethod
    def open(cls, store: EmbeddingStore) -> "MilvusWords | None":
        """None where the store's collection holds no words, or those of other rules."""
        facts = derived.require_fresh(store, "milvus")
        if facts.get("words") != REVISION:
            log.info("words: by this package's BM25, because the Milvus collection holds none")
            return None
        log.info("words: by Milvus's own BM25")
        index = MilvusIndex.open(store, store, facts)
        return cls(store, index.client, index.collection)

    def ask(self, queries: Sequence[Query]) -> "MilvusWordsAnswer":
        return MilvusWordsAnswer(self, [coded(index_terms(query.text)) for query in queries])


@dataclass(frozen=True, eq=False)
class MilvusWordsAnswer:
    search: MilvusWords
    terms: Sequence[str]

    def best(self, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        store = self.search.store
        allowed_N = store.live_N if allowed_N is None else allowed_N
        condition = language_filter(store, allowed_N)
        scores_QK, rows_QK, complete = rows_found(
            store, lambda depth: self._asked(depth, condition, self.terms), k, allowed_N
        )
        if not complete:
            log.warning("Milvus could not find enough rows with these words among those allowed")
        return scores_QK, rows_QK

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        """Of rows that share no word with the query: 0."""
        scores_QP = np.where(rows_QP >= 0, 0.0, np.nan).astype(np.float32)
        for number, terms in enumerate(self.terms):
            rows = rows_QP[number][rows_QP[number] >= 0].tolist()
            if not rows:
                continue
            for hit in self._asked(len(set(rows)), f"row in {rows}", [terms])[0]:
                scores_QP[number, rows_QP[number] == hit["row"]] = hit["distance"]
        return scores_QP

    def _asked(self, depth: int, condition: str, terms: Sequence[str]) -> list[list[dict[str, Any]]]:
        answers = self.search.client.search(
            self.search.collection,
            data=list(terms),
            anns_field="words",
            limit=depth,
            filter=condition,
            search_params={"metric_type": "BM25"},
        )
        # Milvus Lite gives distances, which are negative; a server gives scores.
        return [[{"row": hit["row"], "distance": abs(hit["distance"])} for hit in answer] for answer in answers]
