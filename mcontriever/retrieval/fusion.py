"""Rankings fused into one: by reciprocal ranks, by scores stretched within each ranking, or by scores as they are.

A ranking is a list of (document, score), best first; so is the result.

Blending needs scores that mean the same for every query. A cosine does, and so does a BM25 score divided by the query's
maximum (`lexical_index.py`). An Arabic question shares at most a number with an English passage. Stretched to 1, or
counted as a first rank, that number would outweigh the vectors; as a share of the maximum it hardly counts.
"""

from collections.abc import Callable, Sequence
from typing import Literal

Ranking = Sequence[tuple[int, float]]
Fusion = Literal["rrf", "weighted", "blend"]
RANK_CONSTANT = 60
BLENDED_DENSE_WEIGHT = 0.24  # the largest with which nano's blend never fell below BM25 alone: see results/nano


def fuse(
    dense: Sequence[Ranking], lexical: Sequence[Ranking], fusion: Fusion, dense_weight: float | None = None
) -> list[tuple[int, float]]:
    """`dense_weight` None is BLENDED_DENSE_WEIGHT for a blend, else half; the lexical rankings share the rest."""
    if len(dense) + len(lexical) == 1:
        return list([*dense, *lexical][0])
    if fusion == "rrf":
        return reciprocal_rank_fusion([*dense, *lexical])
    if fusion == "blend":
        return blend(dense, lexical, dense_weight)
    weight = (0.5 if dense_weight is None else dense_weight) if lexical else 1.0
    weight = weight if dense else 0.0
    weights = [weight / len(dense) for _ in dense] + [(1 - weight) / len(lexical) for _ in lexical]
    return weighted_fusion([*dense, *lexical], weights)


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


def blend(
    dense: Sequence[Ranking], lexical: Sequence[Ranking], dense_weight: float | None = None
) -> list[tuple[int, float]]:
    """Scores as they are: the weighted mean of the dense scores plus the root mean square of the BM25 scores.

    Words and subwords disagree where a language joins its words. The mean square trusts the surer of the two.
    A document that a ranking lacks has 0 there.
    """
    weight = BLENDED_DENSE_WEIGHT if dense_weight is None else dense_weight
    weight = weight if dense and lexical else float(bool(dense))
    means = _summed(dense, lambda score: score / len(dense))
    squares = _summed(lexical, lambda score: score * score / len(lexical))
    documents = means.keys() | squares.keys()
    return _best_first(
        {
            document: weight * means.get(document, 0.0) + (1 - weight) * squares.get(document, 0.0) ** 0.5
            for document in documents
        }
    )


def _summed(rankings: Sequence[Ranking], term: Callable[[float], float]) -> dict[int, float]:
    sums: dict[int, float] = {}
    for ranking in rankings:
        for document, score in ranking:
            sums[document] = sums.get(document, 0.0) + term(score)
    return sums


def _best_first(fused: dict[int, float]) -> list[tuple[int, float]]:
    return sorted(fused.items(), key=lambda item: (-item[1], item[0]))
