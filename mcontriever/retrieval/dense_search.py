"""Search by vectors: texts become query vectors, and exact search or an index beside the store finds the best rows.

Shapes: Q queries, H dimensions, P given rows of a query (-1: none).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mcontriever.errors import StoreError
from mcontriever.progress import log
from mcontriever.retrieval.language_means import CentredVectors, LanguageMeans, open_language_means
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.rough_search import RoughSearch
from mcontriever.retrieval.vector_search.vectors import FindRows, Vectors
from mcontriever.texts.documents import Query

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

EXACT, AUTO, MILVUS = "exact", "auto", "milvus"


@dataclass(frozen=True, eq=False)
class DenseSearch:
    """`find` searches `vectors`, the store's own or centred ones. `query_means` are subtracted from queries."""

    store: EmbeddingStore
    encoder: "Encoder"
    vectors: Vectors
    find: FindRows
    query_means: LanguageMeans | None = None

    @classmethod
    def open(
        cls,
        store: EmbeddingStore,
        encoder: "Encoder",
        memory_bytes: int,
        *,
        index: str = AUTO,
        centred: bool = False,
        query_means: LanguageMeans | None = None,
    ) -> "DenseSearch":
        """`auto` takes the newest index that fits and is current, else exact search."""
        vectors = CentredVectors(store, open_language_means(store)) if centred else store
        return cls(store, encoder, vectors, _finder(store, vectors, index, centred, memory_bytes), query_means)

    @classmethod
    def rough(cls, store: EmbeddingStore, encoder: "Encoder", memory_bytes: int) -> "DenseSearch":
        """For many queries and deep rankings, with rounded scores."""
        device = encoder.device if encoder.device.type == "cuda" else "cpu"
        return cls(store, encoder, store, RoughSearch(store, memory_bytes=memory_bytes, device=device).search)

    def ask(self, queries: Sequence[Query]) -> "DenseAnswer":
        queries_QH = self.encoder.embed_queries([query.text for query in queries])
        if self.query_means is not None:
            queries_QH = queries_QH - self.query_means.of([query.language for query in queries])
        return DenseAnswer(self, queries_QH)


@dataclass(frozen=True, eq=False)
class DenseAnswer:
    search: DenseSearch
    queries_QH: np.ndarray

    def best(self, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        return self.search.find(self.queries_QH, k, self.search.store.live_N if allowed_N is None else allowed_N)

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        scores_QP = np.full(rows_QP.shape, np.nan, dtype=np.float32)
        for column, rows_Q in enumerate(rows_QP.T):
            known = np.flatnonzero(rows_Q >= 0)
            vectors = self.search.vectors.take(rows_Q[known])
            scores_QP[known, column] = np.einsum("qh,qh->q", self.queries_QH[known], vectors)
        return scores_QP

    def scores_of_texts(self, queries: Sequence[int], titles: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """Of texts that are not in the store, each with one of the queries."""
        vectors = self.search.encoder.embed_documents(texts, titles)
        return np.einsum("qh,qh->q", self.queries_QH[np.asarray(queries, dtype=np.int64)], vectors)


def _finder(store: EmbeddingStore, vectors: Vectors, index: str, centred: bool, memory_bytes: int) -> FindRows:
    kind = _made_index(store, centred) if index == AUTO else index
    if kind == EXACT:
        return ExactSearch(vectors, memory_bytes=memory_bytes).search
    facts = derived.require_fresh(store, kind)
    if facts["centred"] != centred:
        raise StoreError(
            f"the {kind} index was made {'with' if facts['centred'] else 'without'} --center-languages",
            where=derived.folder_of(store, kind),
            fix="search the way it was made, use --index exact, or make it again",
        )
    if kind == MILVUS:
        from mcontriever.retrieval.vector_search.milvus import MilvusIndex

        return MilvusIndex.open(store, vectors, facts).search
    from mcontriever.retrieval.vector_search.faiss_index import FaissIndex

    return FaissIndex.open(store, vectors, facts).search


def _made_index(store: EmbeddingStore, centred: bool) -> str:
    """The newest index that fits and is current."""
    for kind in derived.kinds_newest_first(store):
        facts = derived.manifest_of(store, kind)
        if not facts or facts.get("centred") != centred:
            continue
        if derived.is_fresh(store, kind):
            measured = facts.get("measured")
            log.info(f"searching the {kind} index" + (f" (recall@10 {measured['recall_at_10']})" if measured else ""))
            return kind
        log.warning(f"the {kind} index is older than the store and is not used: mcontriever index {store.folder}")
    return EXACT
