"""Which search over vectors answers: exact, or an index that was made beside the store."""

from mcontriever.errors import StoreError
from mcontriever.progress import log
from mcontriever.retrieval.language_means import CentredVectors, LanguageMeans
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore, RowSearch
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.vectors import Vectors

EXACT, AUTO, MILVUS = "exact", "auto", "milvus"


def open_dense_search(store: EmbeddingStore, index: str, means: LanguageMeans | None, memory_bytes: int) -> RowSearch:
    """`auto` takes an index that is there and made from the store's present rows, else exact search."""
    vectors: Vectors = store if means is None else CentredVectors(store, means)
    kind = _made_index(store, means is not None) if index == AUTO else index
    if kind == EXACT:
        return ExactSearch(vectors, memory_bytes=memory_bytes).search
    facts = derived.require_fresh(store, kind)
    if facts["centred"] != (means is not None):
        raise StoreError(
            f"the {kind} index was made {'with' if facts['centred'] else 'without'} --center-languages",
            where=derived.folder_of(store, kind),
            fix="search the way it was made, use --index exact, or make it again",
        )
    if kind == MILVUS:
        from mcontriever.retrieval.vector_search.milvus import MilvusIndex

        return MilvusIndex.open(store, facts).search
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
