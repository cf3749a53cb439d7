"""Encode a large batch in the memory of a small one, with the exact gradient.

A contrastive loss needs all embeddings of a batch at once, but not all activations. Each sub-batch is encoded under
torch's checkpointing: its activations are dropped and recomputed, one sub-batch at a time, in the backward of the loss.
Autograd sees one forward and one backward, so each parameter gets its gradient once. DeepSpeed's ZeRO stages require
that; GradCache's several backwards break them.

Shapes: N rows, H hidden.
"""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from mcontriever.tokens import PackedBatch


def encode_in_sub_batches(
    encoder: Callable[[PackedBatch], torch.Tensor], batch: PackedBatch, rows_per_sub_batch: int | None
) -> torch.Tensor:
    """embeddings_NH of all rows, with the activations of at most `rows_per_sub_batch` rows in memory."""
    if rows_per_sub_batch is None or len(batch) <= rows_per_sub_batch:
        return encoder(batch)
    parts = []
    for start in range(0, len(batch), rows_per_sub_batch):
        sub_batch = batch.slice(start, min(start + rows_per_sub_batch, len(batch)))
        parts.append(checkpoint(encoder, sub_batch, use_reentrant=False))
    return torch.cat(parts)
