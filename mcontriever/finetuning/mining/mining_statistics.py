"""Statistics of mined negatives, part by part: skipped candidates by reason, ranks, samples of scores."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RANK_ENDS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)
SAMPLED_SCORES = 2000


@dataclass
class PartStatistics:
    """Of one part, or the sum of several."""

    examples: int = 0
    negatives: int = 0
    unanswered: int = 0  # queries without a label that the cross-encoder found no positive for
    short: int = 0  # how often a search had fewer negatives for a query than requested
    passed_over: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    negative_ranks: Counter[str] = field(default_factory=Counter)
    positive_ranks: Counter[str] = field(default_factory=Counter)
    positive_scores: dict[str, list[float]] = field(default_factory=dict)
    negative_scores: dict[str, list[float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}

    def totals(self) -> dict[str, Any]:
        """All but the samples of scores."""
        return {name: value for name, value in self.to_json().items() if not name.endswith("_scores")}

    @classmethod
    def sum_of(cls, parts: Iterable[Mapping[str, Any]]) -> "PartStatistics":
        total = cls()
        for part in parts:
            for name in ("examples", "negatives", "short", "unanswered"):
                setattr(total, name, getattr(total, name) + part.get(name, 0))
            for name in ("passed_over", "sources", "negative_ranks", "positive_ranks"):
                getattr(total, name).update(part[name])
            for name in ("positive_scores", "negative_scores"):
                for source, scores in part[name].items():
                    getattr(total, name).setdefault(source, []).extend(scores)
        return total


def rank_range(rank: int) -> str:
    """The range of a rank: 1, 2-5, 6-10, ...; 0 is "not found"."""
    if rank < 1:
        return "not found"
    start = 1
    for end in RANK_ENDS:
        if rank <= end:
            return f"{start}-{end}" if end > start else str(end)
        start = end + 1
    return f"above {RANK_ENDS[-1]}"


def rank_counts(ranks: np.ndarray) -> Counter[str]:
    found, counts = np.unique(ranks, return_counts=True)
    total: Counter[str] = Counter()
    for rank, count in zip(found.tolist(), counts.tolist(), strict=True):
        total[rank_range(rank)] += count
    return total


def sampled(scores: np.ndarray) -> list[float]:
    """At most SAMPLED_SCORES of them, evenly spread over their order in the part."""
    chosen = np.linspace(0, len(scores) - 1, min(len(scores), SAMPLED_SCORES)).astype(np.int64)
    return [round(float(score), 6) for score in scores[chosen]]
