"""Make an index beside a store, and measure it against exact search.

mcontriever index STORE --kind auto
mcontriever index STORE --kind milvus --uri http://localhost:19530
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcontriever.amounts import shown_size
from mcontriever.disk import FolderLock, folder_bytes
from mcontriever.errors import ConfigError, StoreError
from mcontriever.progress import log
from mcontriever.retrieval.lexical_index import Term, open_lexical_index
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store_calibration import holds_several_languages, open_calibration
from mcontriever.retrieval.vector_search.index_kinds import KINDS

if TYPE_CHECKING:
    from mcontriever.retrieval.calibration import Calibration


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
    if len(store.deleted_rows) == len(store):
        raise StoreError("the store has no documents", where=folder, fix="embed some first; --kind bm25 needs none")
    with FolderLock(folder / derived.FOLDER, name=".lock-index"):
        if uri is not None:
            _sync_milvus(store, uri, center_languages)
        else:
            _build_faiss(store, kind, memory_mb, recall, center_languages)


def _build_faiss(store: EmbeddingStore, kind: Any, memory_mb: int | None, recall: float, centred: bool) -> None:
    import psutil

    from mcontriever.retrieval.vector_search.index_choice import build, choose_kind, tune

    memory_bytes = memory_mb << 20 if memory_mb else psutil.virtual_memory().available // 2
    chosen = choose_kind(len(store), store.dimension, memory_bytes) if kind == "auto" else kind
    if kind == "auto":
        log.info(f"{len(store):,} vectors and {shown_size(memory_bytes)} of memory: {chosen}")
    vectors, calibration = _vectors_of(store, centred, calibrates=True)
    index, measured = tune(build(vectors, chosen, memory_bytes), recall, store.live_N)
    facts = {"effort": index.effort, "centred": centred, "space": _space(centred, calibration), "measured": measured}
    derived.write(store, chosen, lambda folder: _save(folder, index, calibration), **facts)
    size = folder_bytes(derived.folder_of(store, chosen))
    log.info(
        f"{chosen}: recall@10 {measured['recall_at_10']:.3f} against exact search over {measured['queries']} queries, "
        f"{size / len(store):,.0f} bytes a vector ({shown_size(size)}), {measured['latency_ms']:.2f} ms a query alone, "
        f"{measured['queries_per_second']:,.0f} queries/s together"
    )
    if measured["recall_at_10"] < recall:
        log.warning(f"the recall of {recall} was not reached: try another --kind (hnsw, ivf-sq) or more --memory-mb")


def _sync_milvus(store: EmbeddingStore, uri: str, centred: bool) -> None:
    """With vectors as they are, which do not change when documents come: calibration is the search's."""
    from mcontriever.retrieval.vector_search.milvus import update_collection

    vectors, _ = _vectors_of(store, centred, calibrates=False)
    update_collection(store, vectors, uri, centred)


def _vectors_of(store: EmbeddingStore, center_languages: bool, calibrates: bool) -> tuple[Any, "Calibration | None"]:
    """What an index is made of: calibrated vectors where several languages have to be merged."""
    if center_languages:
        from mcontriever.retrieval.language_means import CentredVectors, open_language_means

        return CentredVectors(store, open_language_means(store)), None
    if not (calibrates and holds_several_languages(store)):
        return store, None
    from mcontriever.retrieval.calibration import CalibratedVectors

    calibration = open_calibration(store)
    return CalibratedVectors(store, store.text_languages[0], calibration), calibration


def _space(centred: bool, calibration: "Calibration | None") -> str:
    return "centred" if centred else "calibrated" if calibration is not None else "raw"


def _save(folder: Path, index: Any, calibration: "Calibration | None") -> None:
    index.save(folder)
    if calibration is not None:
        calibration.save(folder)


def _tokenizer(store: EmbeddingStore) -> Any:
    from mcontriever.tokens import load_tokenizer

    if store.encoder is None:
        raise StoreError("the store has no encoder whose subwords could be used", where=store.folder, fix="use words")
    return load_tokenizer(store.encoder.model)
