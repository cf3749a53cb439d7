"""Rough search against brute force: nearly the same rows, scores right to about a thousandth."""

from typing import Any

import numpy as np
import pytest
import torch

from mcontriever.retrieval.vector_search import rough_search
from mcontriever.retrieval.vector_search.best_rows import BestRows
from mcontriever.retrieval.vector_search.rough_search import RoughSearch
from mcontriever.retrieval.vector_search.vectors import ArrayVectors

K = 20


def set_block_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Of either kind of processor."""
    for name in ("BLOCK_ROWS", "BLOCK_ROWS_IN_FLOAT32"):
        monkeypatch.setattr(rough_search, name, rows)


def vectors(rows: int, seed: int) -> np.ndarray:
    """Rows of different lengths."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(rows, 256)) * random.uniform(0.5, 2, size=(rows, 1))).astype(np.float32)


def check(found: tuple[np.ndarray, np.ndarray], queries: np.ndarray, rows: np.ndarray, allowed: np.ndarray) -> None:
    scores, numbers = found
    exact = np.where(allowed, queries @ rows.T, -np.inf)
    falling = -np.sort(np.partition(-exact, K, axis=1)[:, :K], axis=1)
    near = 4e-3 * np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1).max()
    assert numbers.shape == (len(queries), K)
    assert allowed[numbers].all()
    assert all(len(set(row)) == K for row in numbers.tolist())
    assert (np.abs(np.take_along_axis(exact, numbers, axis=1) - scores) < near).all()
    assert (np.abs(falling - scores) < near).all()
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("block_rows", "sampled"), [(160, 200), (1008, 8192), (1008, 300), (16_384, 8192)])
def test_nearly_equal_to_brute_force(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, block_rows: int, sampled: int, cores: int
) -> None:
    """Blocks with fewer groups than wanted, rows that fill no group, more queries than one product takes; with and
    without a sample of the rows that tells where to begin."""
    set_block_rows(monkeypatch, block_rows)
    monkeypatch.setattr(rough_search, "SAMPLED_ROWS", sampled)
    rows, queries = vectors(3001, seed=1), vectors(300, seed=2)
    search = RoughSearch(ArrayVectors(rows), memory_bytes=1 << 28, dtype=dtype)
    check(search.search(queries, K), queries, rows, np.ones(len(rows), dtype=bool))
    allowed = np.random.default_rng(3).random(len(rows)) < 0.3
    check(search.search(queries, K, allowed), queries, rows, allowed)


def test_a_sample_that_misleads_costs_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that the sample sees are good for one query in two, and no others are."""
    set_block_rows(monkeypatch, 160)
    monkeypatch.setattr(rough_search, "SAMPLED_ROWS", 160)
    rows, queries = vectors(3001, seed=1), vectors(20, seed=2)
    seen = np.linspace(0, len(rows) - 1, 160).astype(np.int64)
    rows[seen] = queries[::2].mean(axis=0) * 3 + 0.1 * vectors(160, seed=4)
    rounds = []
    best = RoughSearch._best

    def watched(search: RoughSearch, queries_QH: torch.Tensor, *others: Any) -> tuple[np.ndarray, np.ndarray]:
        rounds.append(len(queries_QH))
        return best(search, queries_QH, *others)

    monkeypatch.setattr(RoughSearch, "_best", watched)
    k = 30
    scores, numbers = RoughSearch(ArrayVectors(rows), memory_bytes=1 << 28).search(queries, k)
    exact = queries @ rows.T
    assert len(rounds) == 2
    assert 0 < rounds[1] < len(queries)
    assert np.abs(-np.sort(-exact, axis=1)[:, :k] - scores).max() < 2e-2 * np.abs(exact).max()
    assert np.abs(np.take_along_axis(exact, numbers, axis=1) - scores).max() < 2e-2 * np.abs(exact).max()


@pytest.mark.parametrize("order", ["worst first", "best first", "many alike"])
def test_the_order_of_rows_does_not_matter(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """As in a corpus sorted by language. What waits to be merged stays small, whatever comes."""
    set_block_rows(monkeypatch, 160)
    rows, queries = vectors(3001, seed=1), vectors(1, seed=2).repeat(3, axis=0)
    rows = rows[np.argsort(rows @ queries[0])]
    if order == "best first":
        rows = rows[::-1].copy()
    elif order == "many alike":
        rows = rows[[*range(0, 3001, 500)] * 400]
    waiting, add = [], BestRows.add

    def watched(best: BestRows, *block: Any) -> None:
        add(best, *block)
        waiting.append(sum(scores.shape[1] for scores, _ in best._waiting))

    monkeypatch.setattr(BestRows, "add", watched)
    found = RoughSearch(ArrayVectors(rows), memory_bytes=1 << 28).search(queries, K)
    check(found, queries, rows, np.ones(len(rows), dtype=bool))
    assert len(waiting) > 15
    assert max(waiting) < K


def test_embeddings_in_a_corner_of_the_space_are_distinguished() -> None:
    """All cosines are above 0.99; what tells rows apart is a hundredth of a score."""
    corner = 20 * vectors(1, seed=8)
    rows, queries = corner + vectors(2000, seed=4), corner + vectors(50, seed=5)
    scores, numbers = RoughSearch(ArrayVectors(rows), memory_bytes=1 << 28).search(queries, K)
    exact = queries.astype(np.float64) @ rows.T.astype(np.float64)
    best = -np.sort(-exact, axis=1)[:, :K]
    assert np.abs(best - scores).max() < 0.1 * exact.std(axis=1).mean()
    found = np.mean([len(set(row) & set(np.argsort(-exact[q])[:K])) for q, row in enumerate(numbers)])
    assert found > 0.9 * K


def test_no_more_rows_than_there_are() -> None:
    rows, queries = vectors(7, seed=6), vectors(3, seed=7)
    scores, numbers = RoughSearch(ArrayVectors(rows), memory_bytes=1 << 28).search(queries, K)
    assert [sorted(row) for row in numbers.tolist()] == [list(range(7))] * 3
    assert np.isfinite(scores).all()
    allowed = np.zeros(7, dtype=bool)
    assert RoughSearch(ArrayVectors(rows), memory_bytes=1 << 28).search(queries, K, allowed)[1].shape == (3, 0)
    empty = RoughSearch(ArrayVectors(rows[:0]), memory_bytes=1 << 28)
    assert empty.search(queries, K)[1].shape == (3, 0)
