"""Two rankings made one: by reciprocal ranks, or by weighted scores.

A ranking is a list of (document, score), best first; so is what comes out.
"""

from collections.abc import Sequence
from typing import Literal

Ranking = Sequence[tuple[int, float]]
Fusion = Literal["rrf", "weighted"]
RANK_CONSTANT = 60


def reciprocal_rank_fusion(rankings: Sequence[Ranking], constant: int = RANK_CONSTANT) -> list[tuple[int, float]]:
    """A document scores the sum of 1 / (constant + its rank) over the rankings that have it (Cormack et al. 2009)."""
    fused: dict[int, float] = {}
    for ranking in rankings:
        for rank, (document, _) in enumerate(ranking, start=1):
            fused[document] = fused.get(document, 0.0) + 1 / (constant + rank)
    return _best_first(fused)


def weighted_fusion(rankings: Sequence[Ranking], weights: Sequence[float]) -> list[tuple[int, float]]:
    """Scores stretched to 0..1 within each ranking, weighted and added; a document that a ranking lacks has 0 there."""
    fused: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        scores = [score for _, score in ranking]
        low, span = min(scores, default=0.0), max(scores, default=0.0) - min(scores, default=0.0)
        for document, score in ranking:
            stretched = (score - low) / span if span else 1.0
            fused[document] = fused.get(document, 0.0) + weight * stretched
    return _best_first(fused)


def _best_first(fused: dict[int, float]) -> list[tuple[int, float]]:
    return sorted(fused.items(), key=lambda item: (-item[1], item[0]))
