"""Inference on the CPU: a frozen copy of a BERT-family backbone with its weights laid out for oneDNN.

Query, key and value are one product; bias and activation are computed in the products' last step; rows are packed.
On one AVX-512 machine, at XLM-R-base size, torch's own fp32 products (MKL) reached 106 GFLOP/s a core, oneDNN's with
prepared weights 245, and 490 in bf16.

Shapes: T tokens in all sequences, H hidden, A heads, D head size; blocks have R rows of L positions.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import layer_norm

from mcontriever.cpu_operators import PreparedLinear
from mcontriever.encoder.cpu_attention import attend_in_block, attend_in_row, attends_alone
from mcontriever.encoder.row_blocks import Block, plan_blocks
from mcontriever.tokens import PackedBatch

Layer = Callable[..., torch.Tensor]
Watch = Callable[[str, torch.Tensor], None]


class FastCpuBackbone:
    """Call it with a packed batch whose rows are sorted by length; it returns the last layer's hidden_TH.

    `watch`, if given, sees the inputs of each layer's products under "attention_in", "context", "inner_in" and
    "inner_out": calibration needs them.
    """

    def __init__(self, embeddings: Any, layers: Sequence[Layer]) -> None:
        self.word_embeddings = embeddings.word_embeddings.weight
        self.constants_LH = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self.norm = embeddings.LayerNorm
        self.layers = layers

    @classmethod
    def of(cls, backbone: Any, dtype: torch.dtype, *, prepack: bool | None = None) -> "FastCpuBackbone":
        """`prepack` None: if this torch can."""
        activation = backbone.config.hidden_act
        layers = [_FastLayer(layer, activation, dtype, prepack) for layer in backbone.encoder.layer]
        return cls(backbone.embeddings, layers)

    def __call__(self, batch: PackedBatch, watch: Callable[[int], Watch] | None = None) -> torch.Tensor:
        hidden_TH = self._embed(batch)
        blocks = plan_blocks(batch.offsets, hidden_TH.device) if self.layers else []
        for number, layer in enumerate(self.layers):
            hidden_TH = layer(hidden_TH, blocks) if watch is None else layer(hidden_TH, blocks, watch(number))
        return hidden_TH

    def _embed(self, batch: PackedBatch) -> torch.Tensor:
        words_TH = self.word_embeddings.index_select(0, batch.token_ids_T)
        words_TH += self.constants_LH.index_select(0, batch.position_ids_T)
        return apply_norm(self.norm, words_TH)


class _FastLayer:
    def __init__(self, layer: Any, activation: str, dtype: torch.dtype, prepack: bool | None) -> None:
        prepare = functools.partial(PreparedLinear, dtype=dtype, prepack=prepack)
        self.dtype = dtype
        self.heads = layer.attention.self.num_attention_heads
        self.query_key_value = prepare(*joined_query_key_value(layer.attention.self))
        attention, output, inner = layer.attention.output, layer.output, layer.intermediate.dense
        self.attended = prepare(attention.dense.weight, attention.dense.bias)
        self.attended_norm = attention.LayerNorm
        self.inner = prepare(inner.weight, inner.bias, activation=activation)
        self.outer = prepare(output.dense.weight, output.dense.bias)
        self.outer_norm = output.LayerNorm

    def __call__(
        self, hidden_TH: torch.Tensor, blocks: list[Block], watch: Watch = lambda name, values: None
    ) -> torch.Tensor:
        watch("attention_in", hidden_TH)
        context_TH = attend(self.query_key_value(hidden_TH.to(self.dtype)), blocks, self.heads)
        watch("context", context_TH)
        hidden_TH = apply_norm(self.attended_norm, self.attended(context_TH).float().add_(hidden_TH))
        watch("inner_in", hidden_TH)
        inner_TI = self.inner(hidden_TH.to(self.dtype))
        watch("inner_out", inner_TI)
        return apply_norm(self.outer_norm, self.outer(inner_TI).float().add_(hidden_TH))


def joined_query_key_value(attention: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the three products as one, with the attention's scale in the query's part."""
    parts = (attention.query, attention.key, attention.value)
    scale = torch.tensor([1 / math.sqrt(attention.attention_head_size), 1.0, 1.0])
    scale = scale.repeat_interleave(attention.all_head_size)
    weight = torch.cat([part.weight for part in parts]) * scale[:, None]
    return weight, torch.cat([part.bias for part in parts]) * scale


def attend(projected_T3H: torch.Tensor, blocks: list[Block], heads: int) -> torch.Tensor:
    """context_TH from the joined product's output."""
    projected_T3AD = projected_T3H.unflatten(1, (3, heads, -1))
    context_TAD = torch.empty_like(projected_T3AD[:, 0], memory_format=torch.contiguous_format)
    for block in blocks:
        if attends_alone(block, context_TAD.dtype):
            for row in block.row_slices():
                query, key, value = projected_T3AD[row].permute(1, 2, 0, 3).unbind()
                attend_in_row(query, key, value, context_TAD[row].transpose(0, 1))
            continue
        query, key, value = block.gather_three(projected_T3AD)
        block.scatter(attend_in_block(query, key, value, block, heads), context_TAD)
    return context_TAD.flatten(1)


def apply_norm(norm: torch.nn.LayerNorm, values: torch.Tensor) -> torch.Tensor:
    return layer_norm(values, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
