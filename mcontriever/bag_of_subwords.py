"""The short way through a weighted bag of subwords: one sum for each text, no vector for each of its tokens in memory.

A bag that `new_backbone.py` made has no layers and no positions, and its norm only subtracts a vector's mean; so the
norm of the mean is the mean of the norms, and `embedding_bag` can take the mean. On a CPU this trains several times
faster than the general packed forward, to the same embeddings.

Shapes: N rows, T tokens in all, H hidden.
"""

from typing import Any

import torch
from torch.nn.functional import embedding_bag

from mcontriever.new_backbone import IDENTITY_NORM_EPS
from mcontriever.tokens import PackedBatch


def is_plain_bag(backbone: Any) -> bool:
    """Whether `bag_means` gives what the general forward gives: a weighted bag, whole on this rank, no dropout now."""
    config = backbone.config
    if getattr(config, "num_hidden_layers", None) != 0 or getattr(config, "layer_norm_eps", None) != IDENTITY_NORM_EPS:
        return False
    dropout = backbone.embeddings.dropout
    sharded = hasattr(backbone.get_input_embeddings().weight, "ds_id")
    return not sharded and (dropout.p == 0 or not dropout.training)


def bag_means(backbone: Any, token_weights: torch.nn.Embedding | None, batch: PackedBatch) -> torch.Tensor:
    """The mean of each row's (weighted) vectors, NH in float32, with gradient."""
    weights_T = None if token_weights is None else token_weights(batch.token_ids_T)[:, 0]
    summed_NH = embedding_bag(
        batch.token_ids_T,
        backbone.get_input_embeddings().weight,
        batch.offsets[:-1].long(),
        mode="sum",
        per_sample_weights=weights_T,
    )
    means_NH: torch.Tensor = backbone.embeddings.LayerNorm(summed_NH.float() / batch.lengths_N[:, None])
    return means_NH
