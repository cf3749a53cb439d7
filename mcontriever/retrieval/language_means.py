"""The mean vector of each language, which can be subtracted: it says which language a text is in, not its topic.

The documents of a language are close together, so documents in the query's language crowd out better ones in others.
`CentredVectors` subtracts each document's language mean and, if the similarity is the cosine, restores its length of
one. Queries keep their vectors: they are in another region than documents, and found less with the documents' means
subtracted (measured on xquad-mixed5). Many queries at once have their own means; subtracting those helps a little.

Shapes: N rows, L languages, H dimensions, Q queries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mcontriever.npy_files import read_array
from mcontriever.progress import track
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore

KIND = "language-means"
BLOCK_ROWS = 16_384
SMALLEST_GROUP = 20  # a language with fewer documents uses the mean of all documents


@dataclass(frozen=True, eq=False)
class LanguageMeans:
    """`languages[i]` has mean `means_LH[i]`; the last row, named "*", is the mean of all."""

    languages: list[str]
    means_LH: np.ndarray

    def of(self, languages: Sequence[str]) -> np.ndarray:
        """The mean for each of these languages; the mean of all for an unknown one."""
        place = {language: number for number, language in enumerate(self.languages)}
        return self.means_LH[[place.get(language, len(self.languages) - 1) for language in languages]]


class CentredVectors:
    """A store's vectors minus the means of their languages, for exact search and for building indexes."""

    def __init__(self, store: EmbeddingStore, means: LanguageMeans) -> None:
        self.store, self.means = store, means
        self.unit = store.encoder is not None and store.encoder.spec["similarity"] == "cosine"

    @property
    def dimension(self) -> int:
        return self.store.dimension

    def __len__(self) -> int:
        return len(self.store)

    @cached_property
    def _mean_of_code(self) -> np.ndarray:
        return self.means.of(self.store.languages[1])

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        codes_N = self.store.languages[0]
        for piece in self.store.pieces(start, stop):
            yield self._centred(piece.astype(np.float32), codes_N[start : start + len(piece)])
            start += len(piece)

    def take(self, rows_R: np.ndarray) -> np.ndarray:
        return self._centred(self.store.take(rows_R), self.store.languages[0][rows_R])

    def _centred(self, vectors_RH: np.ndarray, codes_R: np.ndarray) -> np.ndarray:
        vectors_RH = vectors_RH - self._mean_of_code[codes_R]
        if self.unit:
            vectors_RH /= np.maximum(np.linalg.norm(vectors_RH, axis=1, keepdims=True), 1e-12)
        return vectors_RH


def open_language_means(store: EmbeddingStore) -> LanguageMeans:
    """The store's means; computed if there are none for its present rows."""
    derived.ensure(store, KIND, lambda: _make(store))
    manifest = derived.require_fresh(store, KIND)
    return LanguageMeans(manifest["languages"], read_array(derived.folder_of(store, KIND) / "means.npy"))


def _make(store: EmbeddingStore) -> None:
    means = compute_language_means(store)

    def save(folder: Path) -> None:
        np.save(folder / "means.npy", means.means_LH)

    derived.write(store, KIND, save, languages=means.languages)


def compute_language_means(store: EmbeddingStore) -> LanguageMeans:
    codes_N, names = store.languages
    sums_LH, counts_L = np.zeros((len(names), store.dimension)), np.zeros(len(names))
    with track(len(store), "language means", "rows") as progress:
        for start in range(0, len(store), BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, len(store))
            live = np.ones(stop - start, dtype=bool) if store.live_N is None else store.live_N[start:stop]
            codes = codes_N[start:stop][live]
            block = np.concatenate([np.asarray(piece, dtype=np.float32) for piece in store.pieces(start, stop)])[live]
            for code in np.unique(codes):
                sums_LH[code] += block[codes == code].sum(axis=0, dtype=np.float64)
            counts_L += np.bincount(codes, minlength=len(names))
            progress.advance(stop - start)
    return _means(names, sums_LH, counts_L)


def means_of_vectors(vectors_NH: np.ndarray, languages: Sequence[str]) -> LanguageMeans:
    """The means by language of vectors in memory, for example of many queries."""
    names, codes_N = np.unique(np.array(languages, dtype=str), return_inverse=True)
    sums_LH = np.zeros((len(names), vectors_NH.shape[1]))
    np.add.at(sums_LH, codes_N, vectors_NH)
    return _means(names.tolist(), sums_LH, np.bincount(codes_N, minlength=len(names)))


def _means(names: list[str], sums_LH: np.ndarray, counts_L: np.ndarray) -> LanguageMeans:
    overall = sums_LH.sum(axis=0) / max(counts_L.sum(), 1)
    means_LH = sums_LH / np.maximum(counts_L, 1)[:, None]
    means_LH[counts_L < SMALLEST_GROUP] = overall
    return LanguageMeans([*names, "*"], np.concatenate([means_LH, overall[None]]).astype(np.float32))
