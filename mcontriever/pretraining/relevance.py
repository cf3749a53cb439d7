"""ReContriever: several keys of one text for each query, weighted by how relevant the model itself finds them.

Two crops of one document may have different topics. The weight of a key is its share of the scores of the query's
keys, without gradient, so doubtful pairs count less. The paper divides scores by their sum; raw dot products can be
negative, which would turn a positive pair into a negative one, so negative scores are handled first.

Shapes: B queries, n keys of each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch

from mcontriever.errors import ConfigError
from mcontriever.pretraining.moco import MoCo, QueueSettings


class RelevanceSettings(QueueSettings):
    """Several keys per query (data.view.keys_per_query), weighted by their relevance.

    The weights of a query's n keys have sum 1, and the loss is the mean over queries. ReContriever's code takes the
    mean over all pairs, which is n times smaller: `mean_over: pairs`. Gradient clipping sees the difference.
    """

    kind: Literal["relevance"] = "relevance"
    weights: Literal["clamp", "softmax"] = "clamp"
    mean_over: Literal["queries", "pairs"] = "queries"

    def objective(self, encoder: Any, *, key_compute_dtype: torch.dtype | None) -> MoCo:
        return relevance_objective(
            encoder,
            weights=self.weights,
            mean_over_pairs=self.mean_over == "pairs",
            **self.values(),
            key_compute_dtype=key_compute_dtype,
        )


def relevance_objective(encoder: Any, *, weights: str = "clamp", **moco: Any) -> MoCo:
    """MoCo (see there for its settings) over batches with several keys for each query."""
    return MoCo(encoder, key_weights=relevance_weights(weights), **moco)


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
