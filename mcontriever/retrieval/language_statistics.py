"""What a store's vectors look like in each language: how many, their mean, how widely they spread, and in which way.

Kept beside the store. All of it is sums over rows, so rows that come are added and rows that go are subtracted; a store
that was made before there were statistics gets them when they are first needed.

Shapes: N rows, L languages, H dimensions.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.errors import StoreError
from mcontriever.npy_files import read_array
from mcontriever.progress import track
from mcontriever.records import checked_record
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.opening_check import REPAIR

KIND = "language-statistics"
BLOCK_ROWS = 16_384
ARRAYS = ("counts", "sums", "squares", "products", "deleted")


@dataclass(frozen=True, eq=False)
class LanguageStatistics:
    """Sums over the rows of each language: of ones, of vectors, of squared lengths; and of x xT over all rows."""

    languages: tuple[str, ...]
    counts_L: np.ndarray
    sums_LH: np.ndarray
    squares_L: np.ndarray
    products_HH: np.ndarray

    @classmethod
    def empty(cls, languages: Sequence[str], dimension: int) -> "LanguageStatistics":
        count = len(languages)
        sums = np.zeros((count, dimension)), np.zeros(count), np.zeros((dimension, dimension))
        return cls(tuple(languages), np.zeros(count, dtype=np.int64), *sums)

    def add(self, vectors_NH: np.ndarray, codes_N: np.ndarray, sign: int = 1) -> None:
        """Take rows in; with `sign` -1 take them out."""
        vectors_NH = np.asarray(vectors_NH, dtype=np.float32)
        self.counts_L[:] += sign * np.bincount(codes_N, minlength=len(self.languages))
        for code in np.unique(codes_N):
            own_RH = vectors_NH[codes_N == code]
            self.sums_LH[code] += sign * own_RH.sum(axis=0, dtype=np.float64)
            self.squares_L[code] += sign * np.einsum("rh,rh->", own_RH, own_RH, dtype=np.float64)
        self.products_HH[:] += sign * (vectors_NH.T @ vectors_NH)
        gone_L = self.counts_L == 0
        self.sums_LH[gone_L], self.squares_L[gone_L] = 0, 0

    def with_languages(self, languages: Sequence[str]) -> "LanguageStatistics":
        """The same sums, in the order of these names, which include all that have rows."""
        wider = self.empty(languages, self.sums_LH.shape[1])
        places = [wider.languages.index(name) for name in self.languages]
        wider.counts_L[places], wider.sums_LH[places] = self.counts_L, self.sums_LH
        wider.squares_L[places], wider.products_HH[:] = self.squares_L, self.products_HH
        return wider

    def differs_from(self, other: "LanguageStatistics") -> bool:
        """By more than the rounding of sums in another order."""
        if self.languages != other.languages or not np.array_equal(self.counts_L, other.counts_L):
            return True
        scale = max(float(other.squares_L.sum()), 1e-30)
        return any(
            float(np.abs(getattr(self, name) - getattr(other, name)).max(initial=0)) > 1e-4 * scale
            for name in ("sums_LH", "squares_L", "products_HH")
        )


@dataclass(frozen=True)
class _Facts:
    languages: list[str]
    shards: list[list[str]]


def open_language_statistics(store: EmbeddingStore) -> LanguageStatistics:
    """The store's statistics, brought up to date if rows came or went since."""
    try:
        derived.ensure(store, KIND, lambda: _bring_up_to_date(store), is_current=lambda: _is_current(store))
    except PermissionError:  # a store that we may only read
        return compute_language_statistics(store)
    return _load(store)[0]


def check_language_statistics(store: EmbeddingStore, repair: bool) -> None:
    """Compare what is kept with the rows, if it is of the present rows; with `repair` make it again."""
    if store.encoder is None or not _is_current(store):
        return
    try:
        kept: LanguageStatistics | None = _load(store)[0]
    except StoreError:
        kept = None
    if kept is not None and not kept.differs_from(compute_language_statistics(store)):
        return
    if not repair:
        what = "the language statistics cannot be read" if kept is None else "the language statistics are not the rows'"
        raise StoreError(what, where=derived.folder_of(store, KIND), fix=REPAIR)
    shutil.rmtree(derived.folder_of(store, KIND))
    open_language_statistics(store)


def compute_language_statistics(store: EmbeddingStore) -> LanguageStatistics:
    """From all rows that are not deleted."""
    statistics = LanguageStatistics.empty(store.text_languages[1], store.dimension)
    _add_rows(store, statistics, 0, len(store))
    return statistics


def _is_current(store: EmbeddingStore) -> bool:
    manifest = derived.manifest_of(store, KIND)
    return manifest is not None and manifest["live_rows"] == _live_rows(store)


def _bring_up_to_date(store: EmbeddingStore) -> None:
    statistics = _from_earlier(store) or compute_language_statistics(store)
    arrays = {
        "counts": statistics.counts_L,
        "sums": statistics.sums_LH,
        "squares": statistics.squares_L,
        "products": statistics.products_HH,
        "deleted": store.deleted_rows,
    }

    def save(folder: Path) -> None:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)

    derived.write(
        store,
        KIND,
        save,
        live_rows=_live_rows(store),
        languages=list(statistics.languages),
        shards=_shard_marks(store),
    )


def _from_earlier(store: EmbeddingStore) -> LanguageStatistics | None:
    """Earlier statistics plus the rows that came, less those that went; None where other shards were written since."""
    try:
        if derived.manifest_of(store, KIND) is None or derived.damage_of(store, KIND):
            return None
        earlier, manifest, deleted = _load(store)
    except StoreError:  # it is made again
        return None
    marks = _shard_marks(store)
    if marks[: len(manifest["shards"])] != manifest["shards"]:
        return None
    known_rows = int(store.starts[len(manifest["shards"])])
    statistics = earlier.with_languages(store.text_languages[1])
    gone = np.setdiff1d(store.deleted_rows[store.deleted_rows < known_rows], deleted)
    for start in range(0, len(gone), BLOCK_ROWS):
        rows = gone[start : start + BLOCK_ROWS]
        statistics.add(store.take(rows), store.text_languages[0][rows], sign=-1)
    _add_rows(store, statistics, known_rows, len(store))
    return statistics


def _load(store: EmbeddingStore) -> tuple[LanguageStatistics, dict[str, Any], np.ndarray]:
    manifest = derived.manifest_of(store, KIND)
    assert manifest is not None
    folder = derived.folder_of(store, KIND)
    checked_record(manifest, _Facts, folder / derived.MANIFEST, fix=REPAIR)
    *sums, deleted = (read_array(folder / f"{name}.npy", fix=REPAIR) for name in ARRAYS)
    return LanguageStatistics(tuple(manifest["languages"]), *sums), manifest, deleted


def _add_rows(store: EmbeddingStore, statistics: LanguageStatistics, first: int, stop: int) -> None:
    with track(stop - first, "language statistics", "rows") as progress:
        for vectors_NH, codes_N in _live_blocks(store, first, stop):
            statistics.add(vectors_NH, codes_N)
            progress.advance(len(codes_N))


def _live_blocks(store: EmbeddingStore, first: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(first, stop, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, stop)
        live = np.ones(end - start, dtype=bool) if store.live_N is None else store.live_N[start:end]
        block_NH = np.concatenate([np.asarray(piece, dtype=np.float32) for piece in store.pieces(start, end)])
        yield block_NH[live], store.text_languages[0][start:end][live]


def _live_rows(store: EmbeddingStore) -> str:
    """Equal while the same rows may be found."""
    deleted = store.manifest.deleted
    return f"{store.manifest.rows_fingerprint()} {deleted.sha256 if deleted else ''}"


def _shard_marks(store: EmbeddingStore) -> list[list[str]]:
    """What a shard holds, by the checksums of its files."""
    return [sorted(file.sha256 for file in shard.files.values()) for shard in store.manifest.shards]
