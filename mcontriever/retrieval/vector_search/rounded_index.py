"""The index `flat-int8`: every vector in 8 bits beside the store, read whole for a few queries; right as exact search.

mcontriever index STORE --kind flat-int8

A query alone is as slow as memory: it reads every vector once, and these are a quarter of the store. They only propose
rows. Each dimension is rounded in steps of its own, and the query to 127 steps, because FAISS multiplies whole numbers
here. So a score's usual error follows from the query and the longest row. Proposals are scored again by the store's
vectors, and a query with an unseen row that could be better by five usual errors is left to exact search; so are many
queries at once, which it multiplies faster.

Shapes: N rows of the store, Q queries, H dimensions, P rows of a piece, K wanted, C proposed.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.errors import StoreError
from mcontriever.progress import track
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.best_rows import in_order
from mcontriever.retrieval.vector_search.exact import DEVIATIONS, SPARE_CANDIDATES, ExactSearch, scores_of_rows
from mcontriever.retrieval.vector_search.index_kinds import FLAT_INT8
from mcontriever.retrieval.vector_search.vectors import Vectors

faiss: Any = importlib.import_module("faiss")  # its type stubs are out of date

CODES, GRID = "codes.faiss", "grid.npy"
BLOCK_ROWS = 16_384
LARGEST, LEAST_STEP = 127, 1e-12
MOST_QUERIES = 16  # with more, exact search is faster on every processor


@dataclass(frozen=True, eq=False)
class RoundedIndex:
    """A vector is about `centre_H` + codes * `step_H`; `longest` is the length of the longest row of codes."""

    codes: Any
    centre_H: np.ndarray
    step_H: np.ndarray
    longest: float
    vectors: Vectors
    kind: str = FLAT_INT8
    effort: int = 1
    efforts = (1,)

    @classmethod
    def build(cls, vectors: Vectors) -> "RoundedIndex":
        """In two passes: how far each dimension reaches, then the codes."""
        lowest_H, highest_H = (np.full(vectors.dimension, end, dtype=np.float32) for end in (np.inf, -np.inf))
        starts = range(0, len(vectors), BLOCK_ROWS)
        for start in starts:
            for piece in vectors.pieces(start, min(start + BLOCK_ROWS, len(vectors))):
                piece_PH = np.asarray(piece, dtype=np.float32)
                lowest_H = np.minimum(lowest_H, piece_PH.min(axis=0))
                highest_H = np.maximum(highest_H, piece_PH.max(axis=0))
        centre_H = (lowest_H + highest_H) / 2
        step_H = np.maximum((highest_H - lowest_H) / (2 * LARGEST), LEAST_STEP)
        codes = faiss.IndexScalarQuantizer(
            vectors.dimension, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
        )
        longest = 0.0
        with track(len(vectors), f"building {FLAT_INT8}", "vectors") as progress:
            for start in starts:
                stop = min(start + BLOCK_ROWS, len(vectors))
                for piece_PH in vectors.pieces(start, stop):
                    steps_PH = np.rint((piece_PH - centre_H) / step_H).clip(-LARGEST, LARGEST).astype(np.float32)
                    codes.add(steps_PH)
                    longest = max(longest, float(np.linalg.norm(steps_PH, axis=1).max()))
                progress.advance(stop - start)
        return cls(codes, centre_H, step_H, longest, vectors)

    @classmethod
    def open(cls, store: EmbeddingStore, vectors: Vectors) -> "RoundedIndex":
        folder = derived.folder_of(store, FLAT_INT8)
        fix = f"make it again: mcontriever index {store.folder} --kind {FLAT_INT8}"
        try:
            codes = faiss.read_index(str(folder / CODES), faiss.IO_FLAG_MMAP_IFC)
            centre_H, step_H, longest_H = np.load(folder / GRID)
        except (EOFError, OSError, RuntimeError, ValueError) as error:
            raise StoreError("the index cannot be read", where=folder, fix=fix) from error
        if (codes.ntotal, codes.d, len(step_H)) != (len(vectors), vectors.dimension, vectors.dimension):
            what = f"the index has {codes.ntotal:,} vectors of {codes.d}; the store has "
            raise StoreError(f"{what}{len(vectors):,} vectors of {vectors.dimension}", where=folder, fix=fix)
        return cls(codes, centre_H, step_H, float(longest_H[0]), vectors)

    def save(self, folder: Path) -> None:
        faiss.write_index(self.codes, str(folder / CODES))
        longest_H = np.full_like(self.step_H, self.longest)
        np.save(folder / GRID, np.stack([self.centre_H, self.step_H, longest_H]))

    def with_effort(self, effort: int) -> "RoundedIndex":
        return self

    def search(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first; of equal scores the lower row first."""
        found = len(self.vectors) if allowed_N is None else int(np.count_nonzero(allowed_N))
        k = min(k, found)
        proposed = min(k + max(SPARE_CANDIDATES, k // 2), found)
        if not 0 < len(queries_QH) <= MOST_QUERIES or k == 0:
            return ExactSearch(self.vectors).search(queries_QH, k, allowed_N)
        queries_QH = np.ascontiguousarray(queries_QH, dtype=np.float32)
        scaled_QH = queries_QH * self.step_H
        step_Q1 = np.maximum(np.abs(scaled_QH).max(axis=1, keepdims=True) / LARGEST, LEAST_STEP)
        rounded_QH = np.rint(scaled_QH / step_Q1)
        chosen = {} if allowed_N is None else {"sel": _selector(allowed_N)}
        products_QC, rows_QC = self.codes.search(rounded_QH, proposed, params=faiss.SearchParameters(**chosen))
        rough_QC = products_QC * step_Q1 + (queries_QH @ self.centre_H)[:, None]
        exact_QC = scores_of_rows(self.vectors, queries_QH, rows_QC)
        scores_QK, rows_QK = in_order(exact_QC, rows_QC, k)
        of_rows_Q = np.square(scaled_QH).sum(axis=1) / 12
        of_query_Q = np.square(scaled_QH - rounded_QH * step_Q1).mean(axis=1) * self.longest**2
        usual_Q = np.maximum(np.sqrt(of_rows_Q + of_query_Q), np.sqrt(np.square(exact_QC - rough_QC).mean(axis=1)))
        unsure_Q = (scores_QK[:, -1] < rough_QC[:, -1] + DEVIATIONS * usual_Q) & (proposed < found)
        if unsure_Q.any():
            again = ExactSearch(self.vectors).search(queries_QH[unsure_Q], k, allowed_N)
            scores_QK[unsure_Q], rows_QK[unsure_Q] = again
        return scores_QK, rows_QK


def _selector(allowed_N: np.ndarray) -> Any:
    return faiss.IDSelectorBitmap(np.packbits(allowed_N, bitorder="little"))
