"""Is a difference significant? Paired over queries: a randomisation test and a bootstrap interval.

The queries are the sample. The test asks whether both models' scores could come from one distribution; the interval
shows how much the mean difference changes with another sample of queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.05
_ROWS_AT_ONCE = 200


@dataclass(frozen=True)
class PairedTest:
    """`difference` is b minus a; 95 % of bootstrap samples lie between `low` and `high`; `p` is two-sided."""

    queries: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float

    def cells(self) -> str:
        """Of a table in percent: queries, the two means, difference, interval, p."""
        means = f"{self.queries} | {100 * self.mean_a:.1f} | {100 * self.mean_b:.1f}"
        interval = f"{100 * self.low:+.1f} to {100 * self.high:+.1f}"
        return f"{means} | {100 * self.difference:+.1f} | {interval} | {self.p:.4f}"


@dataclass(frozen=True)
class Summary:
    """Several languages or tasks, each with equal weight; p values are corrected by Holm's method."""

    groups: int
    better: int
    worse: int
    significantly_better: int
    significantly_worse: int
    difference: float
    low: float
    high: float


def paired_test(scores_a: np.ndarray, scores_b: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> PairedTest:
    """Sign flips for the p value, resampled queries for the interval; both from one fixed seed."""
    assert scores_a.shape == scores_b.shape
    assert len(scores_a) > 0
    differences = np.asarray(scores_b, dtype=np.float64) - np.asarray(scores_a, dtype=np.float64)
    observed = float(differences.mean())
    low, high = mean_interval(differences, seed, resamples)
    return PairedTest(
        queries=len(differences),
        mean_a=float(np.mean(scores_a)),
        mean_b=float(np.mean(scores_b)),
        difference=observed,
        low=low,
        high=high,
        p=_randomisation_p(differences, observed, seed, resamples),
    )


def mean_interval(scores: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % of the means of bootstrap samples lie between these."""
    low, high = np.percentile(_bootstrap_means(scores, seed, resamples), [2.5, 97.5])
    return float(low), float(high)


def summarise(tests: Mapping[Any, PairedTest], differences: Mapping[Any, np.ndarray], seed: int = 0) -> Summary:
    """`differences` holds each group's differences by query; the interval resamples within each group."""
    names = list(tests)
    significant = dict(zip(names, holm([tests[name].p for name in names]), strict=True))
    means = np.mean([_bootstrap_means(differences[name], seed + i, 2_000) for i, name in enumerate(names)], axis=0)
    low, high = np.percentile(means, [2.5, 97.5])
    return Summary(
        groups=len(names),
        better=sum(tests[name].difference > 0 for name in names),
        worse=sum(tests[name].difference < 0 for name in names),
        significantly_better=sum(significant[name] and tests[name].difference > 0 for name in names),
        significantly_worse=sum(significant[name] and tests[name].difference < 0 for name in names),
        difference=float(np.mean([tests[name].difference for name in names])),
        low=float(low),
        high=float(high),
    )


def holm(p_values: list[float], level: float = LEVEL) -> list[bool]:
    """Which of several tests are significant if the chance of any false alarm must stay at `level`."""
    order = np.argsort(p_values, kind="stable")
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def _randomisation_p(differences: np.ndarray, observed: float, seed: int, resamples: int) -> float:
    """How often random signs give a mean at least as far from 0. Never 0: the observed signs count as one draw."""
    random = np.random.default_rng([seed, 1])
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0
    threshold = abs(observed) * len(differences) * (1 - 1e-12)
    extreme = 0
    for start in range(0, resamples, _ROWS_AT_ONCE):
        rows = min(_ROWS_AT_ONCE, resamples - start)
        signs = random.integers(0, 2, size=(rows, len(moved)), dtype=np.int8)
        sums = (2.0 * signs - 1.0) @ moved
        extreme += int((np.abs(sums) >= threshold).sum())
    return (extreme + 1) / (resamples + 1)


def _bootstrap_means(differences: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    random = np.random.default_rng([seed, 2])
    means = np.empty(resamples)
    for start in range(0, resamples, _ROWS_AT_ONCE):
        rows = min(_ROWS_AT_ONCE, resamples - start)
        drawn = random.integers(0, len(differences), size=(rows, len(differences)))
        means[start : start + rows] = differences[drawn].mean(axis=1)
    return means
