"""Encode a batch of any size in the memory of a small one, with the exact gradient of the whole.

A contrastive loss needs all embeddings of a batch at once, but not all activations. Each sub-batch is encoded under
torch's own checkpointing: its activations are dropped, and made again, one sub-batch at a time, in the backward of
the one loss. It is one forward and one backward to autograd, so each parameter's gradient arrives once, as DeepSpeed's
ZeRO stages require (GradCache's several backwards break them).

Shapes: N rows, H hidden.
"""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from mcontriever.tokens import PackedBatch


def encode_in_sub_batches(
    encoder: Callable[[PackedBatch], torch.Tensor], batch: PackedBatch, rows_per_sub_batch: int | None
) -> torch.Tensor:
    """embeddings_NH of all rows, at most `rows_per_sub_batch` of them in memory at a time; None is all at once."""
    if rows_per_sub_batch is None or len(batch) <= rows_per_sub_batch:
        return encoder(batch)
    parts = []
    for start in range(0, len(batch), rows_per_sub_batch):
        sub_batch = batch.slice(start, min(start + rows_per_sub_batch, len(batch)))
        parts.append(checkpoint(encoder, sub_batch, use_reentrant=False))
    return torch.cat(parts)
