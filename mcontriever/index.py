"""Make an index beside a store, and measure it against exact search.

mcontriever index STORE --kind auto
mcontriever index STORE --kind milvus --uri http://localhost:19530
"""

from pathlib import Path
from typing import Any

from mcontriever.amounts import shown_size
from mcontriever.disk import FolderLock, folder_bytes
from mcontriever.errors import ConfigError, StoreError
from mcontriever.progress import log
from mcontriever.retrieval.lexical_index import Term, open_lexical_index
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.index_kinds import KINDS


def run(
    folder: Path,
    *,
    kind: str,
    memory_mb: int | None = None,
    recall: float = 0.95,
    center_languages: bool = False,
    terms: Term = "words",
    uri: str | None = None,
) -> None:
    if kind not in KINDS:
        raise ConfigError(f"no index of kind {kind!r}", fix=f"choose one of {', '.join(KINDS)}")
    store = EmbeddingStore.open(folder)
    if (kind == "milvus") != (uri is not None):
        raise ConfigError("--kind milvus and --uri go together", fix="for example --kind milvus --uri ./milvus.db")
    if kind == "bm25":
        open_lexical_index(store, terms, _tokenizer(store) if terms == "subwords" else None)
        return
    if store.encoder is None:
        raise StoreError("the store has no vectors", where=folder, fix="make --kind bm25, which needs none")
    with FolderLock(folder / derived.FOLDER, name=".lock-index"):
        vectors: Any = store
        if center_languages:
            from mcontriever.retrieval.language_means import CentredVectors, open_language_means

            vectors = CentredVectors(store, open_language_means(store))
        if uri is not None:
            _sync_milvus(store, vectors, uri, center_languages)
        else:
            _build_faiss(store, vectors, kind, memory_mb, recall, center_languages)


def _build_faiss(
    store: EmbeddingStore, vectors: Any, kind: Any, memory_mb: int | None, recall: float, centred: bool
) -> None:
    import psutil

    from mcontriever.retrieval.vector_search.faiss_index import FaissIndex
    from mcontriever.retrieval.vector_search.index_choice import choose_kind, tune

    memory_bytes = memory_mb << 20 if memory_mb else psutil.virtual_memory().available // 2
    chosen = choose_kind(len(store), store.dimension, memory_bytes) if kind == "auto" else kind
    if kind == "auto":
        log.info(f"{len(store):,} vectors and {shown_size(memory_bytes)} of memory: {chosen}")
    index, measured = tune(FaissIndex.build(vectors, chosen, memory_bytes), recall, store.live_N)
    derived.write(store, chosen, index.save, effort=index.effort, centred=centred, measured=measured)
    size = folder_bytes(derived.folder_of(store, chosen))
    log.info(
        f"{chosen}: recall@10 {measured['recall_at_10']:.3f} against exact search over {measured['queries']} queries, "
        f"{size / len(store):,.0f} bytes a vector ({shown_size(size)}), {measured['latency_ms']:.2f} ms a query alone, "
        f"{measured['queries_per_second']:,.0f} queries/s together"
    )
    if measured["recall_at_10"] < recall:
        log.warning(f"the recall of {recall} was not reached: try another --kind (hnsw, ivf-sq) or more --memory-mb")


def _sync_milvus(store: EmbeddingStore, vectors: Any, uri: str, centred: bool) -> None:
    from mcontriever.retrieval.vector_search.milvus import MilvusIndex

    facts = MilvusIndex.sync(store, vectors, uri, centred)
    derived.write(store, "milvus", lambda folder: None, **facts)
    log.info(f"milvus: {facts['stored']:,} vectors, {facts['added']:,} of them new, in {facts['collection']} at {uri}")


def _tokenizer(store: EmbeddingStore) -> Any:
    from mcontriever.tokens import load_tokenizer

    if store.encoder is None:
        raise StoreError("the store has no encoder whose subwords could be used", where=store.folder, fix="use words")
    return load_tokenizer(store.encoder.model)
