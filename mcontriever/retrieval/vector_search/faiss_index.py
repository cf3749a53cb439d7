"""FAISS over a store: built in bounded memory, tuned against exact search, saved beside the store.

Kinds are in index_kinds.py. Compressed ones only propose rows; scores come from the store's own vectors.
Shapes: N rows of the store, Q queries, H dimensions, K wanted, C proposed.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.chance import permuted
from mcontriever.errors import StoreError
from mcontriever.progress import track
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.exact import ExactSearch, scores_of_rows
from mcontriever.retrieval.vector_search.index_kinds import FAISS_KINDS, HNSW_LINKS, LISTS, proposed_per_wanted
from mcontriever.retrieval.vector_search.vectors import Vectors

faiss: Any = importlib.import_module("faiss")  # its type stubs are out of date

FILE = "index.faiss"
BLOCK_ROWS = 16_384
HNSW_BUILD_DEPTH = 120
SMALL_SHARE = 0.1  # if fewer rows are allowed, exact search over only those is faster and complete
TRAIN_ROWS_PER_LIST = 64
LEAST_TRAINING_ROWS = 16  # as many as codes of 4 bits


@dataclass(frozen=True, eq=False)
class FaissIndex:
    """`effort` is nprobe for the lists, efSearch for the graph."""

    kind: str
    index: Any
    vectors: Vectors
    effort: int

    @classmethod
    def build(cls, vectors: Vectors, kind: str, memory_bytes: int, seed: int = 0) -> "FaissIndex":
        index = _empty(kind, vectors.dimension, len(vectors))
        if not index.is_trained:
            index.train(_training_sample(vectors, index, memory_bytes, seed))
        with track(len(vectors), f"building {kind}", "vectors") as progress:
            for start in range(0, len(vectors), BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, len(vectors))
                for piece in vectors.pieces(start, stop):
                    index.add(np.ascontiguousarray(piece, dtype=np.float32))
                progress.advance(stop - start)
        return cls(kind, index, vectors, effort=1)

    @classmethod
    def open(cls, store: EmbeddingStore, vectors: Vectors, kind: str, facts: dict[str, Any]) -> "FaissIndex":
        if kind not in FAISS_KINDS:
            raise StoreError(f"{kind} is not an index of vectors", where=store.folder, fix="give auto, exact or flat")
        path, effort = derived.folder_of(store, kind) / FILE, facts.get("effort")
        fix = f"make it again: mcontriever index {store.folder} --kind {kind}"
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise StoreError("the index cannot be read", where=path, fix=fix) from error
        if (index.ntotal, index.d) != (len(vectors), vectors.dimension) or not isinstance(effort, int) or effort < 1:
            what = f"the index has {index.ntotal:,} vectors of {index.d} and effort {effort}; the store has "
            raise StoreError(f"{what}{len(vectors):,} vectors of {vectors.dimension}", where=path, fix=fix)
        return cls(kind, index, vectors, effort)

    def save(self, folder: Path) -> None:
        faiss.write_index(self.index, str(folder / FILE))

    @property
    def efforts(self) -> list[int]:
        """The efforts worth trying, least first."""
        if self.kind == "flat":
            return [1]
        most = self.index.nlist if self.kind != "hnsw" else 2048
        return [2**power for power in range(4 if self.kind == "hnsw" else 0, 13) if 2**power < most] + [most]

    def with_effort(self, effort: int) -> "FaissIndex":
        return FaissIndex(self.kind, self.index, self.vectors, effort)

    def search(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first, row -1 where fewer were found."""
        if allowed_N is not None and np.count_nonzero(allowed_N) < SMALL_SHARE * len(self.vectors):
            return ExactSearch(self.vectors).search(queries_QH, k, allowed_N)
        k = min(k, len(self.vectors))
        proposed = min(max(k * proposed_per_wanted(self.kind), k), len(self.vectors))
        queries_QH = np.ascontiguousarray(queries_QH, dtype=np.float32)
        scores_QC, rows_QC = self.index.search(queries_QH, proposed, params=self._parameters(allowed_N, proposed))
        if proposed_per_wanted(self.kind) > 1:
            scores_QC = scores_of_rows(self.vectors, queries_QH, rows_QC)
            order = np.argsort(-scores_QC, axis=1, kind="stable")
            scores_QC, rows_QC = np.take_along_axis(scores_QC, order, 1), np.take_along_axis(rows_QC, order, 1)
        return scores_QC[:, :k], rows_QC[:, :k]

    def _parameters(self, allowed_N: np.ndarray | None, proposed: int) -> Any:
        chosen: dict[str, Any] = {}
        if allowed_N is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed_N, bitorder="little"))
        if self.kind == "flat":
            return faiss.SearchParameters(**chosen)
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(self.effort, proposed), **chosen)
        return faiss.SearchParametersIVF(nprobe=self.effort, **chosen)


def _empty(kind: str, dimension: int, rows: int) -> Any:
    if kind == "flat":
        return faiss.IndexFlatIP(dimension)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_BUILD_DEPTH
        return index
    lists = 1 << max(int(np.log2(max(4 * np.sqrt(rows), 1))), 0)
    lists = max(min(lists, rows // 39), 1)
    return faiss.index_factory(dimension, f"IVF{lists},{LISTS[kind].codes(dimension)}", faiss.METRIC_INNER_PRODUCT)


def _training_sample(vectors: Vectors, index: Any, memory_bytes: int, seed: int) -> np.ndarray:
    affordable = max(memory_bytes // 4 // (4 * vectors.dimension), 256)
    wanted = max(index.nlist * TRAIN_ROWS_PER_LIST, 256 * 64)
    count = min(len(vectors), affordable, wanted)
    sample_NH = vectors.take(np.sort(permuted(seed, "index-training", len(vectors), np.arange(count))))
    # a small store's rows repeat
    sample_NH = np.resize(
        sample_NH, (max(count, LEAST_TRAINING_ROWS), vectors.dimension)
    )  # a small store's rows repeat
    if (sample_NH == sample_NH[0]).all():  # codes without any spread make ivf-pq's scores NaN
        sample_NH = sample_NH + np.random.default_rng(seed).normal(0, 0.01, sample_NH.shape).astype(np.float32)
    return sample_NH
