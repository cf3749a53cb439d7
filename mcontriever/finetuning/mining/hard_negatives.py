"""Which of the passages that a search found can be hard negatives, and which of those are taken.

A candidate is skipped, and counted, if it is outside the window of ranks, known to answer the query, a duplicate of a
better candidate, or too near to the positive by score. Everything is arithmetic on a block of queries.

Shapes: Q queries of a block, K candidates each in the search's order, P known positives of a query at most.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from mcontriever.chance import uniform

NO_KEY = 0
REASONS = (
    "outside the window",
    "known to answer, or taken already",
    "text of a better candidate",
    "too near to the positive",
)


@dataclass(frozen=True, kw_only=True)
class Window:
    """Ranks count from 1. A negative must score at most `positive - margin`, and at most `relative_margin` of it."""

    first_rank: int
    last_rank: int
    margin: float | None = None
    relative_margin: float | None = None


def eligible_candidates(
    scores_QK: np.ndarray,
    keys_QK: np.ndarray,
    known_keys_QP: np.ndarray,
    positive_scores_Q: np.ndarray,
    window: Window,
) -> tuple[np.ndarray, Counter[str]]:
    """eligible_QK, and how many candidates were skipped by reason (the first that applies).

    `keys_QK` are the candidates' text keys, NO_KEY if the search found nothing; `positive_scores_Q` is NaN if the
    positive has no score, and then no candidate is too near to it.
    """
    ranks_K = np.arange(1, scores_QK.shape[1] + 1)
    found_QK = keys_QK != NO_KEY
    is_known_QK = np.zeros_like(found_QK)
    for known_Q in known_keys_QP.T:
        is_known_QK |= (keys_QK == known_Q[:, None]) & (known_Q != NO_KEY)[:, None]
    failures = (
        np.broadcast_to((ranks_K < window.first_rank) | (ranks_K > window.last_rank), found_QK.shape),
        is_known_QK,
        _seen_before(keys_QK),
        scores_QK > _ceiling(positive_scores_Q, window)[:, None],
    )
    eligible_QK, counts = found_QK, Counter[str]()
    for reason, fails_QK in zip(REASONS, failures, strict=True):
        counts[reason] = int((eligible_QK & fails_QK).sum())
        eligible_QK = eligible_QK & ~fails_QK
    return eligible_QK, counts


def choose(eligible_QK: np.ndarray, count: int, *, at_random: bool, seed: int, examples_Q: np.ndarray) -> np.ndarray:
    """Columns of up to `count` eligible candidates, in the search's order or a random one, then -1.

    A random choice depends on the example only, not on its block.
    """
    order_QK = np.broadcast_to(np.arange(eligible_QK.shape[1], dtype=np.float64), eligible_QK.shape)
    if at_random:
        order_QK = uniform(seed, "mined negative", examples_Q[:, None], np.arange(eligible_QK.shape[1]))
    columns_QK = np.argsort(np.where(eligible_QK, order_QK, np.inf), axis=1, kind="stable")[:, :count]
    return np.where(np.take_along_axis(eligible_QK, columns_QK, axis=1), columns_QK, -1)


def _ceiling(positive_scores_Q: np.ndarray, window: Window) -> np.ndarray:
    """A share of a negative score would be above it, so the relative margin is subtracted from its size."""
    ceiling_Q = np.full(len(positive_scores_Q), np.inf)
    known_Q = np.isfinite(positive_scores_Q)
    if window.margin is not None:
        ceiling_Q = np.where(known_Q, positive_scores_Q - window.margin, ceiling_Q)
    if window.relative_margin is not None:
        share_Q = positive_scores_Q - (1 - window.relative_margin) * np.abs(positive_scores_Q)
        ceiling_Q = np.where(known_Q, np.minimum(ceiling_Q, share_Q), ceiling_Q)
    return ceiling_Q


def _seen_before(keys_QK: np.ndarray) -> np.ndarray:
    """True if the same key is in an earlier column of the row."""
    order_QK = np.argsort(keys_QK, axis=1, kind="stable")
    sorted_QK = np.take_along_axis(keys_QK, order_QK, axis=1)
    repeated_QK = np.zeros(keys_QK.shape, dtype=bool)
    repeated_QK[:, 1:] = sorted_QK[:, 1:] == sorted_QK[:, :-1]
    seen_QK = np.zeros(keys_QK.shape, dtype=bool)
    np.put_along_axis(seen_QK, order_QK, repeated_QK, axis=1)
    return seen_QK
