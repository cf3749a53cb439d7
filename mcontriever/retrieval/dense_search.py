"""Search by vectors: texts become query vectors, and exact search or an index beside the store finds the best rows.

Shapes: Q queries, H dimensions, P given rows of a query (-1: none).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mcontriever.errors import ModelError, StoreError
from mcontriever.progress import log
from mcontriever.retrieval.calibration import OTHER_LANGUAGE, CalibratedVectors, Calibration
from mcontriever.retrieval.language_means import CentredVectors, LanguageMeans, open_language_means
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store_calibration import open_calibration
from mcontriever.retrieval.vector_search.best_rows import in_order
from mcontriever.retrieval.vector_search.exact import ExactSearch, scores_of_rows
from mcontriever.retrieval.vector_search.index_kinds import FLAT_INT8
from mcontriever.retrieval.vector_search.rough_search import RoughSearch
from mcontriever.retrieval.vector_search.vectors import FindRows, Vectors
from mcontriever.texts.documents import Document, Query
from mcontriever.texts.language_detection import with_detected_languages

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

Space = Literal["raw", "centred", "calibrated"]
EXACT, AUTO, MILVUS = "exact", "auto", "milvus"
SPARE_ROWS = 16
MADE = {"raw": "from vectors as they are", "centred": "with --center-languages", "calibrated": "for calibrated search"}
ASKED = {"raw": "--merge raw", "centred": "--center-languages", "calibrated": "calibrated"}


@dataclass(frozen=True, eq=False)
class DenseSearch:
    """`find` searches `vectors`: the store's own, centred or calibrated ones.

    `kind` is the index that it searches. `query_means` are subtracted from queries. With a `calibration`, scores are
    in deviations of unrelated documents' scores, in every language.
    """

    store: EmbeddingStore
    encoder: "Encoder"
    vectors: Vectors
    find: FindRows
    query_means: LanguageMeans | None = None
    calibration: Calibration | None = None
    kind: str = EXACT

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
        space: Space = "centred" if centred else "raw"
        vectors = CentredVectors(store, open_language_means(store)) if centred else store
        kind = _chosen_index(store, index, space)
        return cls(store, encoder, vectors, _finder(store, vectors, kind, memory_bytes), query_means, kind=kind)

    @classmethod
    def calibrated(
        cls, store: EmbeddingStore, encoder: "Encoder", memory_bytes: int, *, index: str = AUTO
    ) -> "DenseSearch":
        """An index is searched with the calibration that it was made with; Milvus holds vectors as they are."""
        kind = _chosen_index(store, index, "calibrated")
        is_current = kind in (EXACT, MILVUS)
        calibration = open_calibration(store) if is_current else Calibration.load(derived.folder_of(store, kind))
        vectors = CalibratedVectors(store, store.text_languages[0], calibration)
        if kind == MILVUS:
            find = finder_by_language(_finder(store, store, kind, memory_bytes), vectors, store.live_N)
        else:
            find = _finder(store, vectors, kind, memory_bytes)
        return cls(store, encoder, vectors, find, calibration=calibration, kind=kind)

    @classmethod
    def rough(
        cls, store: EmbeddingStore, encoder: "Encoder", memory_bytes: int, *, calibrated: bool = False
    ) -> "DenseSearch":
        """For many queries and deep rankings, with rounded scores."""
        device = encoder.device if encoder.device.type == "cuda" else "cpu"
        calibration = open_calibration(store) if calibrated else None
        vectors = store if calibration is None else CalibratedVectors(store, store.text_languages[0], calibration)
        find = RoughSearch(vectors, memory_bytes=memory_bytes, device=device).search
        return cls(store, encoder, vectors, find, calibration=calibration)

    def ask(self, queries: Sequence[Query]) -> "DenseAnswer":
        embedded_QH = self.encoder.embed_queries([query.text for query in queries])
        if not np.isfinite(embedded_QH).all():
            raise ModelError("the embeddings of the queries hold NaN or infinity", fix="check the model's weights")
        if self.calibration is not None:
            return DenseAnswer(self, self.calibration.queries(embedded_QH), embedded_QH)
        if self.query_means is not None:
            return DenseAnswer(self, embedded_QH - self.query_means.of([query.language for query in queries]))
        return DenseAnswer(self, embedded_QH)


@dataclass(frozen=True, eq=False)
class DenseAnswer:
    """`queries_QH` are what is searched with, `embedded_QH` what the encoder gave, if that differs."""

    search: DenseSearch
    queries_QH: np.ndarray
    embedded_QH: np.ndarray | None = None

    def best(self, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        return self.search.find(self.queries_QH, k, self.search.store.live_N if allowed_N is None else allowed_N)

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        if not rows_QP.size or not len(self.search.store):
            return np.full(rows_QP.shape, np.nan, dtype=np.float32)
        scores_QP = scores_of_rows(self.search.vectors, self.queries_QH, rows_QP)
        scores_QP[rows_QP < 0] = np.nan
        return scores_QP

    def one(self, query: int) -> "DenseAnswer":
        """The answer to one of the queries."""
        embedded_QH = None if self.embedded_QH is None else self.embedded_QH[query : query + 1]
        return DenseAnswer(self.search, self.queries_QH[query : query + 1], embedded_QH)

    def raw_scores_of(self, query: int, rows_R: np.ndarray) -> np.ndarray:
        """The encoder's own scores of rows for one query."""
        query_H = self.queries_QH[query] if self.embedded_QH is None else self.embedded_QH[query]
        scores_R: np.ndarray = self.search.store.take(rows_R) @ query_H
        return scores_R

    def scores_of_texts(self, queries: Sequence[int], documents: Sequence[Document]) -> np.ndarray:
        """Of documents that are not in the store, each with one of the queries."""
        search = self.search
        vectors_DH = search.encoder.embed_documents([one.text for one in documents], [one.title for one in documents])
        if search.calibration is not None:
            code_of = {name: code for code, name in enumerate(search.store.text_languages[1])}
            known = [one.text_language or one.language for one in with_detected_languages(documents)]
            codes_D = np.array([code_of.get(name, OTHER_LANGUAGE) for name in known])
            vectors_DH = search.calibration.rows(vectors_DH, codes_D)
        return np.einsum("qh,qh->q", self.queries_QH[np.asarray(queries, dtype=np.int64)], vectors_DH)


def _finder(store: EmbeddingStore, vectors: Vectors, kind: str, memory_bytes: int) -> FindRows:
    if kind == EXACT:
        return ExactSearch(vectors, memory_bytes=memory_bytes).search
    facts = derived.require_fresh(store, kind)
    if kind == MILVUS:
        from mcontriever.retrieval.vector_search.milvus import MilvusIndex

        return MilvusIndex.open(store, vectors, facts).search
    if kind == FLAT_INT8:
        from mcontriever.retrieval.vector_search.rounded_index import RoundedIndex

        return RoundedIndex.open(store, vectors).search
    from mcontriever.retrieval.vector_search.faiss_index import FaissIndex

    return FaissIndex.open(store, vectors, kind, facts).search


def finder_by_language(find: FindRows, vectors: CalibratedVectors, live_N: np.ndarray | None) -> FindRows:
    """Calibrated search by a finder over vectors as they are: more rows than wanted of each language, scored again.

    Within a language a calibrated query finds nearly the same rows in both: only their lengths around the mean differ.
    """

    def search(queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        allowed_N = live_N if allowed_N is None else allowed_N
        rows = []
        for code in np.unique(vectors.codes_N if allowed_N is None else vectors.codes_N[allowed_N]):
            own_N = vectors.codes_N == code
            rows.append(find(queries_QH, 2 * k + SPARE_ROWS, own_N if allowed_N is None else own_N & allowed_N)[1])
        rows_QC = np.concatenate([np.full((len(queries_QH), 0), -1), *rows], axis=1)
        return in_order(scores_of_rows(vectors, queries_QH, rows_QC), rows_QC, k)

    return search


def space_of(facts: dict[str, Any]) -> Space:
    """What an index was made of; before there was calibration, `centred` said it."""
    return facts.get("space") or ("centred" if facts.get("centred") else "raw")


def _chosen_index(store: EmbeddingStore, index: str, space: Space) -> str:
    if index == AUTO:
        return _made_index(store, space)
    if index != EXACT:
        made_in = space_of(derived.require_fresh(store, index))
        if not _fits(index, made_in, space):
            raise StoreError(
                f"the {index} index was made {MADE[made_in]}, and the search is {ASKED[space]}",
                where=derived.folder_of(store, index),
                fix="search the way it was made, use --index exact, or make it again",
            )
    return index


def _fits(kind: str, made_in: Space, space: Space) -> bool:
    return made_in == space or (kind == MILVUS and (made_in, space) == ("raw", "calibrated"))


def _made_index(store: EmbeddingStore, space: Space) -> str:
    """The newest index that fits and is current."""
    for kind in derived.kinds_newest_first(store):
        try:
            facts = derived.manifest_of(store, kind)
        except StoreError as error:
            log.warning(f"the {kind} index is not used: {error}")
            continue
        if not facts or "centred" not in facts:
            continue
        if not derived.is_fresh(store, kind):
            log.warning(f"the {kind} index is older than the store and is not used: mcontriever index {store.folder}")
        elif _fits(kind, space_of(facts), space):
            measured = facts.get("measured")
            log.info(f"searching the {kind} index" + (f" (recall@10 {measured['recall_at_10']})" if measured else ""))
            return kind
        elif space == "calibrated" and space_of(facts) == "raw":
            log.warning(
                f"the {kind} index was made {MADE['raw']} and is not used: make it again with mcontriever index "
                f"{store.folder}, or search with --merge raw"
            )
    return EXACT
