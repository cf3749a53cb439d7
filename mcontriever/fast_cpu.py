"""Inference on the CPU: a frozen copy of a BERT-family backbone with its weights laid out for oneDNN.

Query, key and value are one product; bias, GELU and residual ride along in the products' last step; rows are packed.
Measured on 2 cores at XLM-R-base size: torch's own fp32 products (MKL) reach 106 GFLOP/s per core, oneDNN's with
prepared weights 245, and in bf16 490. The prepared layout is a private operator of torch, so it is tried once on a
small product, and `torch.nn.functional.linear` takes over where it is missing or wrong.

Shapes: T tokens in all sequences, H hidden, A heads, D head size; blocks have R rows of L positions.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import layer_norm, linear

from mcontriever.attention_blocks import Block, plan_blocks
from mcontriever.block_attention import attend_in_block
from mcontriever.tokens import PackedBatch

_FUSED_ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
_ROWS_HINT = 2048  # the number of rows that oneDNN chooses its weight layout for


def good_at_bf16() -> bool:
    """Whether the processor multiplies bf16 natively. By capability: emulated bf16 is slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


class FastCpuBackbone:
    """Call it with a packed batch, rows sorted by length; it returns the last layer's hidden_TH."""

    def __init__(self, backbone: Any, dtype: torch.dtype, *, prepack: bool | None = None) -> None:
        if prepack is None:
            prepack = can_prepack(dtype)
        self.embeddings = backbone.embeddings
        self.dtype = dtype
        activation = backbone.config.hidden_act
        self.layers = [_FastLayer(layer, activation, dtype, prepack) for layer in backbone.encoder.layer]

    def __call__(self, batch: PackedBatch) -> torch.Tensor:
        hidden_TH = self._embed(batch).to(self.dtype)
        blocks = plan_blocks(batch.offsets, hidden_TH.device) if self.layers else []
        for layer in self.layers:
            hidden_TH = layer(hidden_TH, blocks)
        return hidden_TH

    def _embed(self, batch: PackedBatch) -> torch.Tensor:
        own = self.embeddings
        word_TH = own.word_embeddings.weight.index_select(0, batch.token_ids_T)
        constant_LH = own.position_embeddings.weight + own.token_type_embeddings.weight[0]
        word_TH += constant_LH.index_select(0, batch.position_ids_T)
        norm = own.LayerNorm
        return layer_norm(word_TH, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class _FastLayer:
    def __init__(self, layer: Any, activation: str, dtype: torch.dtype, prepack: bool) -> None:
        own = layer.attention.self
        self.heads, self.head_size = own.num_attention_heads, own.attention_head_size
        prepare = functools.partial(PreparedLinear, dtype=dtype, prepack=prepack)
        parts = (own.query, own.key, own.value)
        scale = torch.tensor([1 / math.sqrt(self.head_size), 1.0, 1.0]).repeat_interleave(own.all_head_size)
        self.query_key_value = prepare(
            torch.cat([part.weight for part in parts]) * scale[:, None],
            torch.cat([part.bias for part in parts]) * scale,
        )
        attention, output = layer.attention.output, layer.output
        self.attended = prepare(attention.dense.weight, attention.dense.bias)
        self.attended_norm = _Norm(attention.LayerNorm, dtype)
        inner = layer.intermediate.dense
        self.inner = prepare(inner.weight, inner.bias, activation=activation)
        self.outer = prepare(output.dense.weight, output.dense.bias)
        self.outer_norm = _Norm(output.LayerNorm, dtype)

    def __call__(self, hidden_TH: torch.Tensor, blocks: list[Block]) -> torch.Tensor:
        context_TH = self._attend(self.query_key_value(hidden_TH), blocks)
        hidden_TH = self.attended_norm(self.attended.plus(context_TH, hidden_TH))
        return self.outer_norm(self.outer.plus(self.inner(hidden_TH), hidden_TH))

    def _attend(self, projected_T3H: torch.Tensor, blocks: list[Block]) -> torch.Tensor:
        projected = projected_T3H.view(-1, 3, self.heads, self.head_size)
        context_TAD = projected.new_empty(projected.shape[0], self.heads, self.head_size)
        for block in blocks:
            query, key, value = block.gather_three(projected)
            block.scatter(attend_in_block(query, key, value, block, self.heads), context_TAD)
        return context_TAD.flatten(1)


class _Norm:
    def __init__(self, norm: torch.nn.LayerNorm, dtype: torch.dtype) -> None:
        self.shape, self.eps = norm.normalized_shape, norm.eps
        self.weight, self.bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return layer_norm(values, self.shape, self.weight, self.bias, self.eps)


class PreparedLinear:
    """activation(x W^T + b), and x W^T + b + residual, with W laid out once."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        *,
        dtype: torch.dtype,
        prepack: bool,
        activation: str | None = None,
    ) -> None:
        self.prepack = prepack
        self.bias = bias.detach().to(dtype)
        plain = weight.detach().to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(plain, _ROWS_HINT) if prepack else plain
        fused = _FUSED_ACTIVATIONS.get(activation or "") if prepack else None
        self.attribute, self.algorithm = fused or ("none", "")
        self.activation = None if fused or activation is None else _activation(activation)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        if self.prepack:
            result = torch.ops.mkldnn._linear_pointwise(
                values, self.weight, self.bias, self.attribute, [], self.algorithm
            )
        else:
            result = linear(values, self.weight, self.bias)
        return result if self.activation is None else self.activation(result)

    def plus(self, values: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        if self.prepack:
            return torch.ops.mkldnn._linear_pointwise.binary(values, residual, self.weight, self.bias, "add")
        return linear(values, self.weight, self.bias) + residual


def _activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    from transformers.activations import ACT2FN

    return ACT2FN[name]


@functools.cache
def can_prepack(dtype: torch.dtype) -> bool:
    """Try the private operators on a small product and compare: present and right, or not used at all."""
    generator = torch.Generator().manual_seed(0)
    values, weight = (torch.randn(16, 32, generator=generator) for _ in range(2))
    bias = torch.randn(16, generator=generator)
    try:
        prepared = PreparedLinear(weight, bias, dtype=dtype, prepack=True, activation="gelu")
        outputs = (
            prepared(values.to(dtype)),
            PreparedLinear(weight, bias, dtype=dtype, prepack=True).plus(
                values.to(dtype), torch.ones(16, 16, dtype=dtype)
            ),
        )
    except (AttributeError, RuntimeError, TypeError):
        return False
    product = values @ weight.T + bias
    expected = torch.nn.functional.gelu(product), product + 1
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    return all(
        torch.allclose(output.float(), value, atol=tolerance, rtol=tolerance)
        for output, value in zip(outputs, expected, strict=True)
    )
