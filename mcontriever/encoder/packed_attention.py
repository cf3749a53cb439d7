"""Attention within each sequence of a packed batch.

On CUDA torch's variable-length kernel if it can run (half precision, Ampere or newer), else padded SDPA. On the CPU
rows of similar length form blocks (`row_blocks.py`, `cpu_attention.py`). Rows sorted by length make few blocks.

Shapes: T tokens, A heads, D head size.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from mcontriever.cpu_operators import flash_attention_with_dropout, has_flash_dropout
from mcontriever.encoder.cpu_attention import block_attention
from mcontriever.encoder.row_blocks import Block, plan_blocks
from mcontriever.tokens import PackedBatch

FLASH_HEAD_SIZE_LIMIT = 256


class PackedAttention:
    """One batch's plan, shared by all layers."""

    def __init__(self, batch: PackedBatch) -> None:
        self._offsets = batch.offsets
        self._max_length = batch.max_length
        self._blocks: list[Block] | None = None

    def __call__(
        self, query_TAD: torch.Tensor, key_TAD: torch.Tensor, value_TAD: torch.Tensor, dropout: float = 0.0
    ) -> torch.Tensor:
        has_kernel = _has_varlen_kernel(query_TAD.device, query_TAD.dtype, query_TAD.shape[-1])
        if has_kernel and (dropout == 0.0 or has_flash_dropout()):
            return _varlen(query_TAD, key_TAD, value_TAD, self._offsets, self._max_length, dropout)
        if self._blocks is None:
            self._blocks = plan_blocks(self._offsets, query_TAD.device)
        if query_TAD.device.type == "cpu":
            return block_attention(query_TAD, key_TAD, value_TAD, self._blocks, dropout)
        return _padded_sdpa(query_TAD, key_TAD, value_TAD, self._blocks, dropout)


def wants_sorted_rows(backbone: Any) -> bool:
    """Blocks need rows sorted by length; the variable-length kernel does not, and sorting makes a GPU wait."""
    weight = next(backbone.parameters())
    device = weight.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    head_size = backbone.config.hidden_size // backbone.config.num_attention_heads
    return not _has_varlen_kernel(weight.device, dtype, head_size)


def _has_varlen_kernel(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    capable = torch.cuda.get_device_capability(device) >= (8, 0)
    return capable and head_size % 8 == 0 and head_size <= FLASH_HEAD_SIZE_LIMIT


def _varlen(
    query_TAD: torch.Tensor,
    key_TAD: torch.Tensor,
    value_TAD: torch.Tensor,
    offsets: torch.Tensor,
    max_length: int,
    dropout: float,
) -> torch.Tensor:
    if dropout == 0.0:
        from torch.nn.attention.varlen import varlen_attn

        context_TAD = varlen_attn(query_TAD, key_TAD, value_TAD, offsets, offsets, max_length, max_length)
        assert isinstance(context_TAD, torch.Tensor)
        return context_TAD
    return flash_attention_with_dropout(query_TAD, key_TAD, value_TAD, offsets, max_length, dropout)


def _padded_sdpa(
    query_TAD: torch.Tensor, key_TAD: torch.Tensor, value_TAD: torch.Tensor, blocks: list[Block], dropout: float
) -> torch.Tensor:
    outputs = []
    for block in blocks:
        query, key, value = (block.gather(x).unflatten(0, (block.rows, -1)) for x in (query_TAD, key_TAD, value_TAD))
        mask = block.attention_mask()
        context = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        context = context.transpose(1, 2).flatten(0, 1)
        outputs.append(context if block.places is None else context.index_select(0, block.places))
    return torch.cat(outputs)
