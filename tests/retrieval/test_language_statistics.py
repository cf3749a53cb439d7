"""language_statistics.py against numpy over the live rows, after each kind of change to a store."""

from pathlib import Path

import numpy as np
import pytest

from mcontriever import verify
from mcontriever.encoder import Encoder
from mcontriever.errors import StoreError
from mcontriever.retrieval.language_statistics import (
    LanguageStatistics,
    compute_language_statistics,
    open_language_statistics,
)
from mcontriever.retrieval.store import derived, store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import all_vectors, make_store, mixed_documents, statistics_of


def check(store: EmbeddingStore, statistics: LanguageStatistics) -> None:
    codes_N, names = store.languages
    vectors_NH = all_vectors(store).astype(np.float64)
    live_N = np.ones(len(store), dtype=bool) if store.live_N is None else store.live_N
    assert statistics.languages == tuple(names)
    for code in range(len(names)):
        own_RH = vectors_NH[live_N & (codes_N == code)]
        assert statistics.counts_L[code] == len(own_RH)
        np.testing.assert_allclose(statistics.sums_LH[code], own_RH.sum(axis=0), atol=1e-4)
        np.testing.assert_allclose(statistics.squares_L[code], np.square(own_RH).sum(), rtol=1e-5)
    np.testing.assert_allclose(statistics.products_HH, vectors_NH[live_N].T @ vectors_NH[live_N], atol=1e-3)


def test_statistics_follow_the_rows(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, model = tmp_path / "s", str(tiny_encoder_dir)
    settings = {"model": model, "shard_documents": 20}
    store = make_store(folder, mixed_documents(50), encoder, **settings)
    check(store, open_language_statistics(store))
    store_edits.delete(folder, ["d3", "d4", "d9"])
    urdu = [Document(f"u{number}", f"{number} {number}", language="ur") for number in range(7)]
    make_store(folder, [*urdu, *mixed_documents(15, prefix="more-")], encoder, mode="append", **settings)
    read: list[int] = []
    add = LanguageStatistics.add

    def counting(self: LanguageStatistics, vectors_NH: np.ndarray, codes_N: np.ndarray, sign: int = 1) -> None:
        read.append(sign * len(codes_N))
        add(self, vectors_NH, codes_N, sign)

    monkeypatch.setattr(LanguageStatistics, "add", counting)
    store = EmbeddingStore.open(folder)
    check(store, open_language_statistics(store))
    store = make_store(folder, urdu[:2], encoder, mode="replace", **settings)
    check(store, open_language_statistics(store))
    assert sum(map(abs, read)) < len(store)  # only what came and went was read
    store_edits.delete(folder, [document.id for document in urdu])
    store = EmbeddingStore.open(folder)
    check(store, open_language_statistics(store))
    store_edits.compact(folder)
    store = EmbeddingStore.open(folder)
    check(store, open_language_statistics(store))


def test_an_older_store_gets_them_once(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", mixed_documents(20), encoder)
    first = open_language_statistics(store)
    path = derived.folder_of(store, "language-statistics") / "manifest.json"
    made = path.stat().st_mtime_ns
    assert not open_language_statistics(store).differs_from(first)
    assert path.stat().st_mtime_ns == made


@pytest.mark.parametrize("damage", ["cut", "other numbers"])
def test_verify_compares_them_with_the_rows(tmp_path: Path, encoder: Encoder, damage: str) -> None:
    store = make_store(tmp_path / "s", mixed_documents(20), encoder)
    verify.run(store.folder)
    path = derived.folder_of(store, "language-statistics") / "sums.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        np.save(path, np.load(path) + 1)
    with pytest.raises(StoreError, match=r"the language statistics (cannot be read|are not the rows')"):
        verify.run(store.folder)
    check(store, open_language_statistics(store))  # a search makes them again without being asked
    np.save(path, np.load(path) + 1)
    verify.run(store.folder, repair=True)
    verify.run(store.folder)
    check(store, open_language_statistics(store))


def test_other_sums_are_told_from_the_same_in_another_order(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", mixed_documents(30), encoder)
    codes_N, names = store.languages
    backwards_N = np.arange(len(store))[::-1]
    found = statistics_of(all_vectors(store)[backwards_N], [names[code] for code in codes_N[backwards_N]])
    assert not found.differs_from(compute_language_statistics(store))
    found.squares_L[0] *= 1.01
    assert found.differs_from(compute_language_statistics(store))
