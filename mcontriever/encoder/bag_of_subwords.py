"""The fast forward of a weighted bag of subwords: one sum per text, without a vector per token in memory.

A bag that `new_backbone.py` made has no layers and no positions, and its norm only subtracts a vector's mean. So the
norm of the mean is the mean of the norms, and `embedding_bag` can take the mean. On a CPU this trains several times
faster than the general packed forward, to the same embeddings.

Shapes: N rows, T tokens in all, H hidden.
"""

from typing import Any

import torch
from torch.nn.functional import embedding_bag

from mcontriever.encoder.new_backbone import is_weighted_bag
from mcontriever.tokens import PackedBatch


def is_plain_bag(backbone: Any) -> bool:
    """Whether `bag_means` gives what the general forward gives: a weighted bag, whole on this rank, no dropout now."""
    if not is_weighted_bag(vars(backbone.config)):
        return False
    dropout = backbone.embeddings.dropout
    sharded = hasattr(backbone.get_input_embeddings().weight, "ds_id")
    return not sharded and (dropout.p == 0 or not dropout.training)


@torch.no_grad()
def unfold_token_weights(backbone: Any, *, scale_free: bool) -> torch.nn.Embedding:
    """Undo what saving did, so that an exported bag learns like a new one.

    A weight is its vector's length over the mean length. If embeddings are normalized (`scale_free`), the vectors get
    unit length too: an export in float8 has scaled them, and no learning rate would fit.
    """
    vectors_VH = backbone.get_input_embeddings().weight
    lengths_V1 = vectors_VH.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    weights_V1 = lengths_V1 / lengths_V1.mean()
    vectors_VH.div_(lengths_V1 if scale_free else weights_V1)
    return torch.nn.Embedding.from_pretrained(weights_V1, freeze=False)


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
