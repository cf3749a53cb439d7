"""flat-int8: what float64 finds, whatever the rows are; saved, opened, refused when damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mcontriever import index as verb
from mcontriever.errors import StoreError
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.rounded_index import CODES, GRID, MOST_QUERIES, RoundedIndex
from mcontriever.retrieval.vector_search.vectors import ArrayVectors
from tests.retrieval.small_corpora import unit_rows

RNG = np.random.default_rng(3)
CASES = {
    "clustered": lambda rows: rows,
    "in one corner": lambda rows: rows * np.float32(0.01) + np.float32(5),
    "nearer than a step": lambda rows: rows[:1] + np.float32(1e-4) * rows,
    "one dimension is large": lambda rows: rows * np.float32([50, *[1] * (rows.shape[1] - 1)]),
    "one row is long": lambda rows: np.concatenate([rows, 40 * rows[:1]]),
    "half precision": lambda rows: rows.astype(np.float16),
    "a dimension without spread": lambda rows: rows * np.float32([0, *[1] * (rows.shape[1] - 1)]),
}


@pytest.mark.parametrize("dimension", [24, 64])  # FAISS multiplies whole numbers if it is a multiple of 32
@pytest.mark.parametrize("case", CASES)
def test_equals_brute_force(case: str, dimension: int) -> None:
    rows_NH = CASES[case](unit_rows(RNG, 3000, dimension, clusters=40))
    index = RoundedIndex.build(ArrayVectors(rows_NH))
    near = rows_NH[RNG.integers(0, len(rows_NH), MOST_QUERIES)].astype(np.float32)
    queries_QH = near + np.float32(0.1) * RNG.standard_normal(near.shape, dtype=np.float32)
    for allowed_N in (None, RNG.random(len(rows_NH)) < 0.2):
        exact_QN = queries_QH.astype(np.float64) @ rows_NH.astype(np.float64).T
        if allowed_N is not None:
            exact_QN[:, ~allowed_N] = -np.inf
        scores_QK, found_QK = index.search(queries_QH, 10, allowed_N)
        best_QK = -np.sort(-exact_QN, axis=1)[:, :10]
        np.testing.assert_allclose(scores_QK, best_QK, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(exact_QN, found_QK, axis=1), best_QK, rtol=1e-5, atol=1e-5)


def test_it_is_sure_of_most_answers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_NH = unit_rows(RNG, 5000, 64)
    index = RoundedIndex.build(ArrayVectors(rows_NH))
    left: list[int] = []
    exact = ExactSearch.search
    monkeypatch.setattr(ExactSearch, "search", lambda own, *rest: left.append(1) or exact(own, *rest))
    for row_H in rows_NH[:20]:
        assert index.search(row_H[None], 1)[1] == [[np.argmax(rows_NH @ row_H)]]
    assert len(left) < 5


def test_few_rows_and_no_queries() -> None:
    rows_NH = unit_rows(RNG, 7, 24)
    index = RoundedIndex.build(ArrayVectors(rows_NH))
    _, rows = index.search(rows_NH[:2], 20)
    assert [sorted(row) for row in rows.tolist()] == [list(range(7))] * 2
    assert index.search(rows_NH[:0], 3)[1].shape == (0, 3)
    assert index.search(rows_NH[:1], 3, np.zeros(7, dtype=bool))[1].shape == (1, 0)


def test_a_store_keeps_it_and_damage_is_refused(mixed_store: EmbeddingStore, tmp_path: Path) -> None:
    store = EmbeddingStore.open(shutil.copytree(mixed_store.folder, tmp_path / "store"))
    verb.run(store.folder, kind="flat-int8")
    made = store.folder / "indexes" / "flat-int8"
    size = (made / CODES).stat().st_size
    assert size < 1.2 * len(store) * store.dimension + 500
    opened = RoundedIndex.open(store, store)
    assert opened.codes.ntotal == len(store)
    (made / GRID).write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be read") as caught:
        RoundedIndex.open(store, store)
    assert "--kind flat-int8" in str(caught.value)
