import numpy as np
import pytest
from scipy import stats

from mcontriever.evaluation.significance import holm, mean_interval, paired_test, summarise


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.15])
def test_p_is_that_of_the_exact_randomisation_test(shift: float) -> None:
    """Twelve queries have 4,096 sign patterns: scipy goes through all of them, we draw 10,000."""
    random = np.random.default_rng(3)
    a = random.random(12)
    b = a + random.normal(shift, 0.1, 12)

    def mean_difference(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean(x - y))

    exact = stats.permutation_test((b, a), mean_difference, permutation_type="samples", n_resamples=np.inf)
    assert paired_test(a, b).p == pytest.approx(exact.pvalue, abs=0.015)


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    random = np.random.default_rng(5)
    a = random.random(200)
    b = a + random.normal(0.03, 0.2, 200)
    theirs = stats.bootstrap((b - a,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    ours = paired_test(a, b)
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.002), pytest.approx(theirs.high, abs=0.002))
    assert ours.difference == pytest.approx(float(np.mean(b - a)))


def test_so_is_the_interval_of_a_mean() -> None:
    scores = np.random.default_rng(7).random(150)
    expected = stats.bootstrap((scores,), np.mean, method="percentile", random_state=0).confidence_interval
    assert mean_interval(scores) == pytest.approx((expected.low, expected.high), abs=0.004)
    assert mean_interval(np.full(9, 0.5)) == (0.5, 0.5)


def test_equal_scores_are_no_evidence() -> None:
    scores = np.array([0.0, 0.5, 1.0])
    test = paired_test(scores, scores)
    assert (test.p, test.difference, test.low, test.high) == (1.0, 0.0, 0.0, 0.0)


def test_under_the_null_hypothesis_p_is_small_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    p_values = [paired_test(random.random(40), random.random(40), resamples=400).p for _ in range(300)]
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.09


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),  # 0.005 <= .05/4, 0.01 <= .05/3, 0.03 > .05/2: stop
        ([0.02, 0.001], [True, True]),
        ([0.2], [False]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values: list[float], expected: list[bool]) -> None:
    assert holm(p_values) == expected


def test_a_summary_weighs_languages_not_queries() -> None:
    random = np.random.default_rng(2)
    scores = {"ar": (random.random(900), 0.2), "sw": (random.random(30), -0.1)}
    pairs = {name: (a, a + shift + random.normal(0, 0.01, len(a))) for name, (a, shift) in scores.items()}
    tests = {name: paired_test(a, b) for name, (a, b) in pairs.items()}
    summary = summarise(tests, {name: b - a for name, (a, b) in pairs.items()})
    assert summary.difference == pytest.approx(0.05, abs=0.003)
    assert summary.low < summary.difference < summary.high
    assert (summary.better, summary.worse, summary.significantly_better, summary.significantly_worse) == (1, 1, 1, 1)
