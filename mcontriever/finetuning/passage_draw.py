"""The passages of a query in a sample: one of its positives, and hard or random negatives.

Each of n negatives is a hard one with probability `hard_ratio` (while the query has hard ones that are not drawn yet),
else any passage of the data, as in Contriever. `margin_bins` draws hard negatives as TAS-B does: a teacher's margins
between positive and negative are divided into equal ranges, and all ranges that contain a negative are equally likely.

Shapes: B samples, n negatives each, M hard negatives of an example at most.
"""

from dataclasses import dataclass

import numpy as np

from mcontriever.chance import integers, uniform
from mcontriever.finetuning.examples.training_set import TrainingSet


@dataclass(frozen=True)
class PassageDraw:
    """Rows of passages and a teacher's scores (NaN: none), the positive in column 0."""

    passages_Bn: np.ndarray
    scores_Bn: np.ndarray
    hard_Bn: np.ndarray


def draw_passages(
    examples: TrainingSet,
    rows_B: np.ndarray,
    samples_B: np.ndarray,
    *,
    negatives: int,
    hard_ratio: float,
    margin_bins: int | None,
    seed: int,
) -> PassageDraw:
    positive_at_B = examples.positives.offsets[rows_B] + integers(
        seed, "positive", samples_B, high=examples.positives.lengths_of(rows_B)
    )
    positive_B1 = examples.positives.values_T[positive_at_B][:, None]
    positive_score_B1 = examples.positive_scores.values_T[positive_at_B][:, None]

    slots_n = np.arange(negatives)
    random_Bn = integers(seed, "random negative", samples_B[:, None], slots_n, high=len(examples.passages))
    hard_rows_BM = examples.negatives.padded(rows_B)
    hard_scores_BM = examples.negative_scores.padded(rows_B, fill=np.nan)
    weights_BM = (hard_rows_BM >= 0).astype(np.float64)
    if margin_bins is not None:
        weights_BM *= _evenly_over_margins(positive_score_B1 - hard_scores_BM, margin_bins)
    columns_Bn = _weighted_order(seed, samples_B, weights_BM)[:, :negatives]
    columns_Bn = np.pad(columns_Bn, ((0, 0), (0, negatives - columns_Bn.shape[1])))

    wished_Bn = uniform(seed, "hard or random", samples_B[:, None], slots_n) < hard_ratio
    hard_Bn = wished_Bn & (slots_n < (weights_BM > 0).sum(axis=1)[:, None])
    drawn_Bn = np.where(hard_Bn, np.take_along_axis(hard_rows_BM, columns_Bn, axis=1), random_Bn)
    scores_Bn = np.where(hard_Bn, np.take_along_axis(hard_scores_BM, columns_Bn, axis=1), np.nan)
    return PassageDraw(
        passages_Bn=np.concatenate([positive_B1, drawn_Bn], axis=1),
        scores_Bn=np.concatenate([positive_score_B1, scores_Bn], axis=1).astype(np.float32),
        hard_Bn=hard_Bn,
    )


def _weighted_order(seed: int, samples_B: np.ndarray, weights_BM: np.ndarray) -> np.ndarray:
    """Columns drawn without replacement, each in proportion to its weight among those left.

    The smallest of exponential waiting times is that of column m with probability weight m / sum of weights.
    """
    chance_BM = uniform(seed, "hard negative", samples_B[:, None], np.arange(weights_BM.shape[1]))
    with np.errstate(divide="ignore"):
        waiting_BM = -np.log1p(-chance_BM) / weights_BM
    waiting_BM[weights_BM == 0] = np.inf
    return np.argsort(waiting_BM, axis=1, kind="stable")


def _evenly_over_margins(margins_BM: np.ndarray, bins: int) -> np.ndarray:
    """The weight of each negative: 1 / the number in its range of margins; 0 without a score."""
    known_BM = np.isfinite(margins_BM)
    low_B1 = np.where(known_BM, margins_BM, np.inf).min(axis=1, keepdims=True)
    high_B1 = np.where(known_BM, margins_BM, -np.inf).max(axis=1, keepdims=True)
    width_B1 = np.maximum(high_B1 - low_B1, np.finfo(np.float32).tiny)
    shares_BM = np.where(known_BM, (margins_BM - np.where(known_BM, low_B1, 0)) / np.where(known_BM, width_B1, 1), 0)
    bin_BM = np.minimum((shares_BM * bins).astype(np.int64), bins - 1)
    in_bin_BMb = (bin_BM[:, :, None] == np.arange(bins)) & known_BM[:, :, None]
    sharing_BM = np.take_along_axis(in_bin_BMb.sum(axis=1), bin_BM, axis=1)
    return np.where(known_BM, 1.0 / np.maximum(sharing_BM, 1), 0.0)
