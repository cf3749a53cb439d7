"""Scores that mean the same in every language: how far a document stands out among the documents of its language.

An encoder gives documents in the question's language higher scores than better ones in other languages. What the
documents of a language have in common is its mean; what is left of a document points where its topic is. So a document
becomes the direction of x - mean of its language. A question loses SHARED_PART of the mean of all documents, for it
shares only some of what they share, and what it says of its language: along each direction in which the means of
languages differ, it keeps the part of its offset that topics explain better than languages (Wiener's filter). For one
question the products are then distributed around zero with deviation sqrt(qT W q / trace W) in every language, where W
is the covariance of documents around their languages' means. Divided by that they can be compared between languages,
questions and encoders. The ranking is a search by the inner product,
so `CalibratedVectors` serve both exact search and indexes.

A language with few documents leans on the whole: its mean is trusted as far as languages differ more than documents do
(James and Stein's estimator), so a document alone keeps most of what sets it apart.

Shapes: N rows, L languages, H dimensions, Q queries, R rows asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcontriever.npy_files import read_array
from mcontriever.retrieval.language_statistics import LanguageStatistics
from mcontriever.retrieval.vector_search.vectors import Vectors

ARRAYS = ("means_LH", "spreads_L", "overall_H", "within_HH", "language_LH")
SHARED_PART = 0.5
SPREAD_PRIOR_ROWS = 20  # a language's spread is estimated as if so many more of its rows were spread like all rows
OTHER_LANGUAGE = -1  # the code of a text in a language that the store has none of
LEAST_VARIANCE = 1e-12  # as a share of the vectors' mean squared length: less is rounding


@dataclass(frozen=True, eq=False)
class Calibration:
    """`within_HH` is the covariance of documents around their languages' means; `is_unit`: lengths mean nothing.

    The last row of `means_LH` and `spreads_L` is that of all documents. `language_LH` are directions by which languages
    differ; their squared length is the part of a question to take away.
    """

    means_LH: np.ndarray
    spreads_L: np.ndarray
    overall_H: np.ndarray
    within_HH: np.ndarray
    language_LH: np.ndarray
    least_variance: float
    is_unit: bool

    @classmethod
    def of(cls, statistics: LanguageStatistics, *, is_unit: bool) -> "Calibration":
        counts_L = statistics.counts_L.astype(np.float64)
        rows = max(counts_L.sum(), 1.0)
        overall_H = statistics.sums_LH.sum(axis=0) / rows
        own_LH = statistics.sums_LH / np.maximum(counts_L, 1)[:, None]
        scatter_L = np.maximum(statistics.squares_L - counts_L * np.square(own_LH).sum(axis=1), 0)
        variance = max(float(scatter_L.sum() / rows), 1e-30)
        trust_L = _trust_in_means(counts_L, own_LH, overall_H, variance)
        means_LH = overall_H + trust_L[:, None] * (own_LH - overall_H)
        within_HH = (statistics.products_HH - (own_LH * counts_L[:, None]).T @ own_LH) / rows
        spread_L = (scatter_L + SPREAD_PRIOR_ROWS * variance) / (counts_L + SPREAD_PRIOR_ROWS)
        return cls(
            np.concatenate([means_LH, overall_H[None]]).astype(np.float32),
            np.sqrt(np.maximum([*spread_L, variance], 1e-30)).astype(np.float32),
            overall_H.astype(np.float32),
            within_HH.astype(np.float32),
            _language_directions(np.sqrt(counts_L / rows)[:, None] * (means_LH - overall_H), within_HH),
            LEAST_VARIANCE * float(statistics.squares_L.sum() / rows),
            is_unit,
        )

    def save(self, folder: Path) -> None:
        """Beside an index that was made with it."""
        for name in ARRAYS:
            np.save(folder / f"calibration-{name}.npy", getattr(self, name))
        np.save(folder / "calibration-settings.npy", np.array([self.least_variance, float(self.is_unit)]))

    @classmethod
    def load(cls, folder: Path) -> "Calibration":
        least_variance, is_unit = read_array(folder / "calibration-settings.npy").tolist()
        arrays = {name: read_array(folder / f"calibration-{name}.npy") for name in ARRAYS}
        return cls(**arrays, least_variance=least_variance, is_unit=bool(is_unit))

    def queries(self, queries_QH: np.ndarray) -> np.ndarray:
        """Queries whose products with calibrated rows are in deviations of unrelated documents' products."""
        language_QL = (queries_QH - self.overall_H) @ self.language_LH.T
        queries_QH = queries_QH - SHARED_PART * self.overall_H - language_QL @ self.language_LH
        total = max(float(np.trace(self.within_HH)), self.least_variance, 1e-30)
        variance_Q = np.einsum("qh,hk,qk->q", queries_QH, self.within_HH, queries_QH, optimize=True) / total
        least_Q = 1e-6 * np.square(queries_QH).sum(axis=1)
        return queries_QH / np.sqrt(np.maximum(np.maximum(variance_Q, least_Q), 1e-30))[:, None]

    def rows(self, vectors_RH: np.ndarray, codes_R: np.ndarray) -> np.ndarray:
        """Rows less their languages' means, at length one, or over their languages' spreads."""
        centred_RH = np.subtract(vectors_RH, self.means_LH[codes_R], dtype=np.float32)
        return centred_RH * self._scales(centred_RH, codes_R)[:, None]

    def scales(self, vectors_RH: np.ndarray, codes_R: np.ndarray) -> np.ndarray:
        """By what `rows` multiplies rows less their languages' means."""
        return self._scales(np.subtract(vectors_RH, self.means_LH[codes_R], dtype=np.float32), codes_R)

    def _scales(self, centred_RH: np.ndarray, codes_R: np.ndarray) -> np.ndarray:
        squares_R = np.einsum("rh,rh->r", centred_RH, centred_RH)
        lengths_R = np.sqrt(squares_R) if self.is_unit else self.spreads_L[codes_R]
        says_something_R = squares_R > self.least_variance
        found: np.ndarray = np.where(says_something_R, 1 / np.maximum(lengths_R, 1e-15), 0).astype(np.float32)
        return found


def _trust_in_means(counts_L: np.ndarray, own_LH: np.ndarray, overall_H: np.ndarray, variance: float) -> np.ndarray:
    """How far to believe each language's own mean: the share of its variance that few documents do not explain."""
    rows, languages = max(counts_L.sum(), 1.0), max(int(np.count_nonzero(counts_L)), 1)
    between = float((counts_L * np.square(own_LH - overall_H).sum(axis=1)).sum()) / rows
    between = max(between - (languages - 1) * variance / rows, 0.0)
    return counts_L * between / np.maximum(counts_L * between + variance, 1e-30)


def _language_directions(offsets_LH: np.ndarray, within_HH: np.ndarray) -> np.ndarray:
    """Orthogonal directions, as long as the root of the share of variance along them that is between languages."""
    _, deviations_L, directions_LH = np.linalg.svd(offsets_LH, full_matrices=False)
    within_L = np.einsum("lh,hk,lk->l", directions_LH, within_HH, directions_LH, optimize=True)
    share_L = np.square(deviations_L) / np.maximum(np.square(deviations_L) + np.maximum(within_L, 0), 1e-30)
    found: np.ndarray = (np.sqrt(share_L)[:, None] * directions_LH).astype(np.float32)
    return found


class CalibratedVectors:
    """A store's vectors as the calibration sees them, for exact search and for building indexes.

    By what each row is multiplied is kept once it is known: then a query alone is a product with the store's own
    vectors, less one number for each language, times one for each row.
    """

    def __init__(self, vectors: Vectors, codes_N: np.ndarray, calibration: Calibration) -> None:
        self.source, self.codes_N, self.calibration = vectors, codes_N, calibration
        self._scales_N = np.full(len(vectors), np.nan, dtype=np.float32)

    @property
    def dimension(self) -> int:
        return self.source.dimension

    def __len__(self) -> int:
        return len(self.source)

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for piece in self.source.pieces(start, stop):
            yield self.calibration.rows(piece, self.codes_N[start : start + len(piece)])
            start += len(piece)

    def take(self, rows_R: np.ndarray) -> np.ndarray:
        return self.calibration.rows(self.source.take(rows_R), self.codes_N[rows_R])

    def products_from(
        self, start: int, rows_BH: np.ndarray, products_QB: np.ndarray, queries_QH: np.ndarray
    ) -> np.ndarray:
        part = slice(start, start + len(rows_BH))
        codes_B = self.codes_N[part]
        if np.isnan(self._scales_N[part]).any():
            self._scales_N[part] = self.calibration.scales(rows_BH, codes_B)
        found: np.ndarray = (products_QB - (queries_QH @ self.calibration.means_LH.T)[:, codes_B]) * self._scales_N[
            part
        ]
        return found
