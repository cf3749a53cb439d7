"""exact.py equals brute force, whatever the vectors are like; rounded rows alone would not."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mcontriever.core_pool import side_by_side
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.exact import BLOCKS_AT_ONCE, ExactSearch
from mcontriever.retrieval.vector_search.vectors import ArrayVectors, Vectors
from tests.retrieval.small_corpora import all_vectors, unit_rows


def brute_force(
    vectors: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
        k = min(k, allowed.sum())
    rows = np.lexsort((np.broadcast_to(np.arange(len(vectors)), scores.shape), -scores))[:, :k]
    return np.take_along_axis(scores, rows, 1), rows


def finds_the_best(
    search: ExactSearch, vectors: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> None:
    expected_scores, expected_rows = brute_force(vectors, queries, k, allowed)
    scores, rows = search.search(queries, k, allowed)
    np.testing.assert_allclose(scores, expected_scores, rtol=2e-5, atol=2e-6)
    swapped = rows != expected_rows  # only where fp32 cannot tell two rows apart
    own = np.einsum("qh,qkh->qk", queries.astype(np.float64), vectors[rows].astype(np.float64))
    np.testing.assert_allclose(own[swapped], expected_scores[swapped], rtol=2e-6, atol=2e-7)


ROWS, DIMENSION = 1100, 128  # as few as make several blocks of each kind, whose rounded rows are not kept


def collections() -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    yield "everywhere", unit_rows(rng, ROWS, DIMENSION)
    yield "clustered", unit_rows(rng, ROWS, DIMENSION, clusters=20)
    offset = unit_rows(rng, ROWS, DIMENSION) + np.float32(0.8)
    yield "all in one corner", (offset / np.linalg.norm(offset, axis=1, keepdims=True)).astype(np.float32)
    yield "long and short", unit_rows(rng, ROWS, DIMENSION) * rng.lognormal(0, 2, (ROWS, 1)).astype(np.float32)
    for name, kinds in {"near duplicates": ROWS // 100, "of two kinds": 2}.items():
        rows = np.repeat(unit_rows(rng, kinds, DIMENSION), ROWS // kinds, axis=0)
        yield name, (rows + 1e-4 * rng.standard_normal((ROWS, DIMENSION))).astype(np.float32)


COLLECTIONS = dict(collections())
DTYPES = [torch.int8, torch.bfloat16, torch.float32]


def rounding_search(vectors: Vectors, dtype: torch.dtype, memory_bytes: int = 1 << 28) -> ExactSearch:
    return ExactSearch(vectors, memory_bytes=memory_bytes, rough_dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COLLECTIONS)
def test_equals_brute_force(name: str, dtype: torch.dtype, cores: int) -> None:
    vectors = COLLECTIONS[name]
    rng = np.random.default_rng(1)
    many = vectors[:40] + 0.1 * rng.standard_normal((40, DIMENSION)).astype(np.float32)
    search = rounding_search(ArrayVectors(vectors), dtype, memory_bytes=1 << 18)
    assert search.block_rows * BLOCKS_AT_ONCE > ROWS > 3 * search.block_rows > 3 * search.rough.block_rows
    assert not search.keeps_rows
    every = [None, rng.random(ROWS) < 0.3, np.arange(ROWS) == 7]
    for allowed, queries in itertools.product(every, (many, many[:3])):
        finds_the_best(search, vectors, queries, 10, allowed)


@pytest.mark.parametrize("rows", [1, 15, 17, 1000])
@pytest.mark.parametrize("dimension", [1, 3])
@pytest.mark.parametrize("size", [1e6, 1.0, 1e-8])
def test_odd_shapes_and_sizes(rows: int, dimension: int, size: float) -> None:
    """Rows that fill up a group score worse than any, also where the others are far below zero or nearly zero."""
    rng = np.random.default_rng(0)
    vectors = (size * rng.standard_normal((rows, dimension))).astype(np.float32)
    vectors[1::2] = 0
    queries = rng.standard_normal((7, dimension)).astype(np.float32)
    queries[0] = 0
    for allowed, k in itertools.product((None, rng.random(rows) < 0.1, np.arange(rows) == rows - 1), (1, 10, 200)):
        scores, found = ExactSearch(ArrayVectors(vectors)).search(queries, k, allowed)
        expected, _ = brute_force(vectors, queries, k, allowed)
        np.testing.assert_allclose(scores, expected, atol=1e-5 * size)
        np.testing.assert_allclose(np.einsum("qh,qkh->qk", queries, vectors[found]), expected, atol=1e-5 * size)
        assert all(len(set(row)) == scores.shape[1] for row in found.tolist())


def test_blocks_in_several_rounds(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr("mcontriever.retrieval.vector_search.exact.BLOCKS_AT_ONCE", 2)
    vectors = COLLECTIONS["clustered"]
    search = ExactSearch(ArrayVectors(vectors), memory_bytes=1 << 18)
    allowed = np.arange(ROWS) % 3 > 0
    _, expected = brute_force(vectors, vectors[:2] + 0.3, 20, allowed)
    np.testing.assert_array_equal(search.search(vectors[:2] + 0.3, 20, allowed)[1], expected)


def test_a_thread_that_begins_while_others_search_may_take_all_cores(cores: int) -> None:
    found: list[int] = []

    def search() -> None:
        ExactSearch(ArrayVectors(COLLECTIONS["everywhere"]), memory_bytes=1 << 18).search(
            COLLECTIONS["clustered"][:2], 5
        )
        found.append(torch.get_num_threads())

    side_by_side(2, torch.device("cpu"))
    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cores] * 8


def test_each_core_of_the_pool_works_alone(cores: int) -> None:
    """Not only before its first operation that several cores might share."""

    def threads_taken(number: int) -> int:
        torch.ones(1000, 1000).sum()
        return torch.get_num_threads()

    assert list(side_by_side(6, torch.device("cpu"))(threads_taken, range(6))) == [1] * 6


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_what_rounded_rows_would_have_missed_is_searched_again(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Among 100 near duplicates 74 candidates are too few to be sure, and 522 are not; among 550 they are, too."""
    searched: list[str] = []
    for name in ("_search_rounded", "_search_fp32"):

        def watched(search: ExactSearch, *given: Any, name: str = name, whole: Any = getattr(ExactSearch, name)) -> Any:
            searched.append(name)
            return whole(search, *given)

        monkeypatch.setattr(ExactSearch, name, watched)
    for collection, expected in {
        "clustered": ["_search_rounded"],
        "near duplicates": ["_search_rounded"] * 2,
        "of two kinds": [*["_search_rounded"] * 2, "_search_fp32"],
    }.items():
        vectors = COLLECTIONS[collection]
        searched.clear()
        _, rows = rounding_search(ArrayVectors(vectors), dtype).search(vectors[:40], 10)
        assert searched == expected
        found, best = (
            np.einsum("qh,qkh->qk", vectors[:40], vectors[of])
            for of in (rows, brute_force(vectors, vectors[:40], 10, None)[1])
        )
        np.testing.assert_allclose(found, best, rtol=1e-6)


def test_equal_rows_come_in_the_order_of_the_store() -> None:
    vectors = np.ones((50, 8), dtype=np.float32)
    for queries in (vectors[:1], vectors[:9]):
        scores, rows = ExactSearch(ArrayVectors(vectors)).search(queries, 50)
        assert (rows == np.arange(50)).all()
        assert (scores == 8).all()


@pytest.mark.parametrize("queries", [2, 40])
def test_of_many_copies_the_first_are_found(queries: int, cores: int) -> None:
    vectors = COLLECTIONS["everywhere"][np.random.default_rng(0).integers(0, 5, ROWS)]
    search = ExactSearch(ArrayVectors(vectors), memory_bytes=1 << 18)
    _, expected = brute_force(vectors, COLLECTIONS["clustered"][:queries], 20, None)
    for _ in range(2):
        np.testing.assert_array_equal(search.search(COLLECTIONS["clustered"][:queries], 20)[1], expected)


def test_candidates_that_round_exactly_say_nothing_of_the_others() -> None:
    vectors = np.zeros((960, 8), dtype=np.float32)
    vectors[:480, 0], vectors[480:, 0] = 1, -1
    vectors[900:916, 1], vectors[500:516, 1] = 10.41, -10.41
    vectors[900] = 0
    vectors[900, 0] = 1.0168
    query = np.eye(8, dtype=np.float32)[[0] * 5]
    assert (ExactSearch(ArrayVectors(vectors)).search(query, 10)[1][:, 0] == 900).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_wanted_than_there_is(dtype: torch.dtype) -> None:
    vectors = unit_rows(np.random.default_rng(0), 5, 8)
    search = rounding_search(ArrayVectors(vectors), dtype)
    assert search.search(vectors, 100)[1].shape == (5, 5)
    assert search.search(vectors, 3, np.zeros(5, dtype=bool))[1].shape == (5, 0)
    assert search.search(vectors[:0], 3)[1].shape == (0, 3)


@pytest.mark.parametrize("memory_bytes", [1, 1 << 30])
def test_a_store_in_small_blocks_or_kept_whole(mixed_store: EmbeddingStore, memory_bytes: int) -> None:
    vectors = all_vectors(mixed_store)
    search = ExactSearch(mixed_store, memory_bytes=memory_bytes)
    for count in (2, 2, 9, 9):  # the second time from the rounded rows, if they are kept
        finds_the_best(search, vectors, vectors[:count], 5)
    assert search.keeps_rows == (memory_bytes > 1)
