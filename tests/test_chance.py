"""chance.py against its promises: pure, uniform, and true bijections."""

import numpy as np
import pytest

from mcontriever import chance


def test_same_numbers_whatever_the_split() -> None:
    whole = chance.uniform(3, "crops", np.arange(1000), 5)
    parts = np.concatenate([chance.uniform(3, "crops", np.arange(k, k + 10), 5) for k in range(0, 1000, 10)])
    assert np.array_equal(whole, parts)


@pytest.mark.parametrize("change", [(4, "crops", 0), (3, "keys", 0), (3, "crops", 1)])
def test_seed_stream_and_index_each_matter(change: tuple[int, str, int]) -> None:
    seed, stream, extra = change
    first = chance.uniform(3, "crops", np.arange(1000), 0)
    second = chance.uniform(seed, stream, np.arange(1000), extra)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
    assert not np.any(first == second)


def test_uniform_is_uniform() -> None:
    drawn = chance.uniform(0, "u", np.arange(200_000))
    counts, _ = np.histogram(drawn, bins=100, range=(0, 1))
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert 50 < chi_square < 160
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01


def test_integers_reach_both_ends_and_no_further() -> None:
    drawn = chance.integers(1, "i", np.arange(10_000), high=7)
    assert set(drawn.tolist()) == set(range(7))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000, 4097])
def test_permuted_is_a_bijection(size: int) -> None:
    image = chance.permuted(9, "p", size, np.arange(size), 4)
    assert sorted(image.tolist()) == list(range(size))


def test_permutations_look_random_and_differ_by_key() -> None:
    first = chance.permuted(9, "p", 5000, np.arange(5000), 0)
    second = chance.permuted(9, "p", 5000, np.arange(5000), 1)
    for image, other in ((first, np.arange(5000)), (second, np.arange(5000)), (first, second)):
        assert abs(np.corrcoef(image, other)[0, 1]) < 0.06
        assert (image == other).mean() < 0.003
    assert np.abs(np.diff(first)).mean() == pytest.approx(5000 / 3, rel=0.1)


def test_permuted_takes_a_size_for_each_index() -> None:
    sizes = np.array([1, 7, 5000, 7, 10**12])
    index = np.array([0, 3, 4999, 6, 10**12 - 1])
    together = chance.permuted(9, "p", sizes, index, 4)
    alone = [
        chance.permuted(9, "p", int(size), np.array([place]), 4)[0] for size, place in zip(sizes, index, strict=True)
    ]
    assert together.tolist() == alone
