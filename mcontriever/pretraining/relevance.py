"""ReContriever: several keys of one text for each query, weighted by how relevant the model itself finds them.

Two crops of one document may have different topics. The weight of a key is its share of the scores of the query's
keys, without gradient, so doubtful pairs count less. The paper divides scores by their sum; raw dot products can be
negative, which would turn a positive pair into a negative one, so negative scores are handled first.

The paper's ablation has one key a query, and shares among all pairs of the batch: `weights_over: batch`.

Shapes: B queries, n keys of each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch

from mcontriever import ranks
from mcontriever.errors import ConfigError
from mcontriever.pretraining.moco import MoCo, QueueSettings


class RelevanceSettings(QueueSettings):
    """Several keys per query (data.view.keys_per_query), weighted by their relevance.

    The weights of a query's n keys have sum 1, and the loss is the mean over queries. ReContriever's code takes the
    mean over all pairs, which is n times smaller: `mean_over: pairs`. Gradient clipping sees the difference.
    `weights_over: batch` compares all pairs of the batch instead, and the weights of the batch have the mean 1 / n.
    """

    kind: Literal["relevance"] = "relevance"
    weights: Literal["clamp", "softmax"] = "clamp"
    weights_over: Literal["query", "batch"] = "query"
    mean_over: Literal["queries", "pairs"] = "queries"

    @property
    def contrasts_within_batch(self) -> bool:
        return self.weights_over == "batch" or super().contrasts_within_batch

    def objective(self, encoder: Any, *, key_compute_dtype: torch.dtype | None) -> MoCo:
        return relevance_objective(
            encoder,
            weights=self.weights,
            over_batch=self.weights_over == "batch",
            mean_over_pairs=self.mean_over == "pairs",
            **self.values(),
            key_compute_dtype=key_compute_dtype,
        )


def relevance_objective(encoder: Any, *, weights: str = "clamp", over_batch: bool = False, **moco: Any) -> MoCo:
    """MoCo (see there for its settings) over batches whose pairs count by their relevance."""
    key_weights = relevance_weights(weights)
    return MoCo(encoder, key_weights=partial(shares_of_batch, key_weights) if over_batch else key_weights, **moco)


def relevance_weights(kind: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """`clamp`: negative scores count as 0 (equal weights if all are 0). `softmax`: of the raw scores."""
    kinds: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "clamp": clamped_shares,
        "softmax": partial(torch.softmax, dim=1),
    }
    if kind not in kinds:
        raise ConfigError(f"relevance weights must be one of {', '.join(kinds)}, are {kind!r}")
    return kinds[kind]


def clamped_shares(scores_Bn: torch.Tensor) -> torch.Tensor:
    positive_Bn = scores_Bn.clamp_min(0)
    total_B1 = positive_Bn.sum(1, keepdim=True)
    equal_Bn = torch.full_like(scores_Bn, 1 / scores_Bn.shape[1])
    return torch.where(total_B1 > 0, positive_Bn / total_B1.clamp_min(torch.finfo(scores_Bn.dtype).tiny), equal_Bn)


def shares_of_batch(weigh: Callable[[torch.Tensor], torch.Tensor], scores_Bn: torch.Tensor) -> torch.Tensor:
    """Shares among the pairs of all ranks, times the number of queries, so that the mean over queries is their sum."""
    all_G = ranks.gather(scores_Bn).reshape(1, -1)
    own = slice(ranks.rank() * scores_Bn.numel(), (ranks.rank() + 1) * scores_Bn.numel())
    queries = all_G.shape[1] / scores_Bn.shape[1]
    return weigh(all_G)[:, own].reshape(scores_Bn.shape) * queries
