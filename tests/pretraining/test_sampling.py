"""sampling.py: pure functions of (seed, i), exact shares, every window once an epoch."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcontriever.errors import DataError
from mcontriever.pretraining.sampling import WindowSampler

COUNTS = {"en": 700, "sw": 37, "ar": 260, "th": 1}


def test_any_order_and_any_split_of_the_indices_draws_the_same() -> None:
    indices = np.arange(20_000)
    whole = WindowSampler(COUNTS, alpha=0.5, seed=3).draw(indices)
    shuffled = np.random.default_rng(0).permutation(indices)
    jumped = WindowSampler(COUNTS, alpha=0.5, seed=3).draw(shuffled)
    for rank in range(3):
        part = WindowSampler(COUNTS, alpha=0.5, seed=3).draw(indices[rank::3])
        np.testing.assert_array_equal(part.window, whole.window[rank::3])
        np.testing.assert_array_equal(part.language, whole.language[rank::3])
    np.testing.assert_array_equal(jumped.window, whole.window[shuffled])
    np.testing.assert_array_equal(jumped.phase, whole.phase[shuffled])


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 400), min_size=1, max_size=12),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_in_the_order_of_the_run_each_epoch_of_a_language_is_all_of_its_windows(
    counts: list[int], alpha: float, seed: int
) -> None:
    sampler = WindowSampler({str(number): count for number, count in enumerate(counts)}, alpha=alpha, seed=seed)
    drawn = sampler.draw(np.arange(12_000))
    for number, count in enumerate(counts):
        windows = drawn.window[drawn.language == number]
        for epoch in range(min(len(windows) // count, 20)):
            assert sorted(windows[epoch * count : (epoch + 1) * count]) == list(range(count))
        epochs = drawn.epoch[drawn.language == number]
        np.testing.assert_array_equal(epochs, np.arange(len(windows)) // count)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_shares_follow_the_power_law(alpha: float) -> None:
    sampler = WindowSampler(COUNTS, alpha=alpha, seed=1)
    drawn = sampler.draw(np.arange(5 * sampler.block_size))
    total = sum(count**alpha for count in COUNTS.values())
    for number, (language, count) in enumerate(COUNTS.items()):
        measured = (drawn.language == number).mean()
        assert measured == pytest.approx(sampler.shares[language])
        assert measured == pytest.approx(count**alpha / total, abs=1 / sampler.block_size)


def test_orders_differ_by_epoch_seed_and_language() -> None:
    drawn = WindowSampler({"a": 500, "b": 500}, seed=1).draw(np.arange(40_000))
    orders = {}
    for language in (0, 1):
        windows = drawn.window[drawn.language == language]
        orders |= {(language, epoch): windows[epoch * 500 : (epoch + 1) * 500] for epoch in (0, 1)}
    assert len({order.tobytes() for order in orders.values()}) == 4
    other = WindowSampler({"a": 500, "b": 500}, seed=2).draw(np.arange(1000))
    assert (other.window != drawn.window[:1000]).mean() > 0.9
    # One phase per language and epoch: all windows of a document move together.
    phases = defaultdict(set)
    for language, epoch, phase in zip(drawn.language, drawn.epoch, drawn.phase, strict=True):
        phases[language, epoch].add(phase)
    assert Counter(map(len, phases.values())) == {1: len(phases)}


def test_no_language_with_windows_is_left_out() -> None:
    many = {f"l{number}": 1 for number in range(300)} | {"en": 10**9}
    sampler = WindowSampler(many, alpha=1.0, seed=0)
    assert min(sampler.shares.values()) >= 1 / sampler.block_size
    assert sum(sampler.shares.values()) == pytest.approx(1)
    drawn = sampler.draw(np.arange(sampler.block_size))
    assert len(np.unique(drawn.language)) == 301


def test_an_empty_language_is_refused() -> None:
    with pytest.raises(DataError, match="no windows to sample in sw"):
        WindowSampler({"en": 3, "sw": 0})
    with pytest.raises(DataError, match="in any language"):
        WindowSampler({})


def test_factors_multiply_single_shares() -> None:
    first, *others = COUNTS
    plain = WindowSampler(COUNTS, alpha=0.3).shares
    factored = WindowSampler(COUNTS, alpha=0.3, factors={first: 3.0}).shares
    assert factored[first] == pytest.approx(3 * plain[first] / (1 + 2 * plain[first]), rel=0.02)
    assert factored[others[0]] / factored[others[-1]] == pytest.approx(plain[others[0]] / plain[others[-1]], rel=0.05)
    with pytest.raises(DataError, match="language factors for xx, but the data has"):
        WindowSampler(COUNTS, factors={"xx": 2.0})


def test_samples_together_are_of_one_language_and_miss_no_window() -> None:
    sampler = WindowSampler(COUNTS, alpha=0.3, samples_together=8, seed=1)
    drawn = sampler.draw(np.arange(8 * sampler.block_size))
    assert all(len(set(run)) == 1 for run in drawn.language.reshape(-1, 8).tolist())
    for number, count in enumerate(COUNTS.values()):
        windows = drawn.window[drawn.language == number]
        assert set(windows[:count]) == set(range(count))
    jumped = sampler.draw(np.array([77, 5]))
    assert jumped.window.tolist() == [drawn.window[77], drawn.window[5]]
