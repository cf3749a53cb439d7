"""The selection of hard negatives against a loop that follows its rules one candidate at a time."""

import numpy as np
import pytest

from mcontriever.finetuning.mining.hard_negatives import NO_KEY, REASONS, Window, choose, eligible_candidates

QUERIES, CANDIDATES = 40, 30


@pytest.fixture(scope="module")
def found() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Falling scores, keys that repeat, known answers among them, some queries whose positive has no score."""
    random = np.random.default_rng(2)
    scores = -np.sort(-random.normal(size=(QUERIES, CANDIDATES)), axis=1)
    keys = random.integers(1, 25, size=(QUERIES, CANDIDATES)).astype(np.uint64)
    keys[:, -3:] = NO_KEY
    known = random.integers(0, 25, size=(QUERIES, 2)).astype(np.uint64)
    positives = random.normal(size=QUERIES) + 0.5
    positives[::7] = np.nan
    return scores, keys, known, positives


def naive(scores: np.ndarray, keys: np.ndarray, known: np.ndarray, positive: float, window: Window) -> list[str]:
    """What becomes of each candidate: "" where it is eligible."""
    fates, seen = [], set()
    for rank, (score, key) in enumerate(zip(scores, keys, strict=True), start=1):
        ceiling = np.inf
        if not np.isnan(positive):
            if window.margin is not None:
                ceiling = positive - window.margin
            if window.relative_margin is not None:
                share = positive * window.relative_margin if positive > 0 else positive * (2 - window.relative_margin)
                ceiling = min(ceiling, share)
        if key == NO_KEY:
            fates.append("nothing found")
        elif not window.first_rank <= rank <= window.last_rank:
            fates.append(REASONS[0])
        elif key in known.tolist():
            fates.append(REASONS[1])
        elif key in seen:
            fates.append(REASONS[2])
        else:
            fates.append(REASONS[3] if score > ceiling else "")
        seen.add(key)
    return fates


@pytest.mark.parametrize(
    "window",
    [
        Window(first_rank=1, last_rank=CANDIDATES),
        Window(first_rank=4, last_rank=20),
        Window(first_rank=1, last_rank=CANDIDATES, margin=0.3),
        Window(first_rank=2, last_rank=25, margin=0.1, relative_margin=0.9),
    ],
)
def test_eligible_candidates(found: tuple[np.ndarray, ...], window: Window) -> None:
    scores, keys, known, positives = found
    eligible, counts = eligible_candidates(scores, keys, known, positives, window)
    fates = [naive(*row, window) for row in zip(scores, keys, known, positives, strict=True)]
    assert eligible.tolist() == [[fate == "" for fate in row] for row in fates]
    for reason in REASONS:
        assert counts[reason] == sum(row.count(reason) for row in fates)


def test_top_takes_the_first_and_random_takes_any_of_them() -> None:
    eligible = np.array([[True, False, True, True, True], [False, False, False, True, False]])
    examples = np.array([7, 8])
    top = choose(eligible, 3, at_random=False, seed=0, examples_Q=examples)
    assert top.tolist() == [[0, 2, 3], [3, -1, -1]]
    drawn = [choose(eligible, 2, at_random=True, seed=seed, examples_Q=examples)[0].tolist() for seed in range(400)]
    assert {column for pair in drawn for column in pair} == {0, 2, 3, 4}
    assert all(len(set(pair)) == 2 for pair in drawn)
    first = [pair[0] for pair in drawn]
    assert min(first.count(column) for column in (0, 2, 3, 4)) > 70


def test_a_random_choice_does_not_depend_on_the_block() -> None:
    eligible = np.ones((6, 9), dtype=bool)
    whole = choose(eligible, 4, at_random=True, seed=1, examples_Q=np.arange(6))
    part = choose(eligible[4:], 4, at_random=True, seed=1, examples_Q=np.arange(4, 6))
    assert whole[4:].tolist() == part.tolist()
