"""Inference in 8-bit integers on the CPU: twice the rate of bf16 products where the processor has VNNI or AMX.

Weights are quantized per output channel, activations with fixed scales learned from a sample of texts (`calibrate`).
Three of a layer's four inputs are scaled per channel before rounding, so that a few large channels, which XLM-R has,
do not cost the others their bits; the weights absorb the inverse. Products, bias and GELU are one oneDNN operator;
attention, norms and residuals stay in floating point. On processors without 8-bit products the same rounded numbers
are multiplied in float32: the embeddings are the same, but no faster than float32's.

Shapes: T tokens in all sequences, H hidden, I inner (4 H); I and O are a product's inputs and outputs.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from mcontriever.cpu_operators import Int8Linear, can_int8, to_bytes
from mcontriever.encoder.cpu_backbone import FastCpuBackbone, Watch, apply_norm, attend, joined_query_key_value
from mcontriever.encoder.row_blocks import Block
from mcontriever.processor import missing_int8, multiplies_bf16, multiplies_int8
from mcontriever.progress import log
from mcontriever.tokens import PackedBatch

SITES = ("attention_in", "context", "inner_in")  # ranges per channel; "inner_out" has one range
_CLIPS = torch.linspace(0.3, 1.0, 15)
_CLIP_SAMPLE = 1 << 16
_SIGNED_LEVELS, _UNSIGNED_LEVELS = 127, 255

Ranges = dict[str, torch.Tensor]


def int8_backbone(backbone: Any, ranges: Mapping[str, torch.Tensor]) -> FastCpuBackbone:
    if not can_int8():
        _warn_without_int8()
    activation = backbone.config.hidden_act
    layers = [
        _Int8Layer(layer, activation, {name: ranges[f"{number}.{name}"] for name in (*SITES, "inner_out")})
        for number, layer in enumerate(backbone.encoder.layer)
    ]
    return FastCpuBackbone(backbone.embeddings, layers)


@functools.cache
def _warn_without_int8() -> None:
    reason = "torch's 8-bit products are wrong here" if multiplies_int8() else f"this processor has no {missing_int8()}"
    log.warning(f"int8: {reason}, so products run in float32; precision auto is faster here")


def calibrate(backbone: Any, batches: Iterable[PackedBatch]) -> Ranges:
    """The ranges of every product's input over these batches, computed in float32."""
    exact = FastCpuBackbone.of(backbone, torch.float32)
    ranges: Ranges = {}

    def watch(number: int) -> Watch:
        def see(name: str, values: torch.Tensor) -> None:
            key = f"{number}.{name}"
            new = _best_range(values) if name == "inner_out" else values.abs().amax(0)
            ranges[key] = torch.maximum(ranges[key], new) if key in ranges else new

        return see

    with torch.inference_mode():
        for batch in batches:
            exact(batch, watch)
    return {name: value.clone() for name, value in ranges.items()}


def _best_range(values: torch.Tensor) -> torch.Tensor:
    """[-low, high] of the activation's output; high is where rounding and clipping together err least."""
    flat = values.flatten()
    sample = flat[:: max(1, len(flat) // _CLIP_SAMPLE)]
    low, top = (-flat.min()).clamp_min(0), flat.max()
    errors = torch.stack([_squared_error(sample, low, top * clip) for clip in _CLIPS])
    return torch.stack([low, top * _CLIPS[errors.argmin()]])


def _squared_error(sample: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    step = (low + high) / _UNSIGNED_LEVELS
    rounded = (sample.clamp(-low, high) / step).round() * step
    return (rounded - sample).square().sum()


class _Int8Layer:
    def __init__(self, layer: Any, activation: str, ranges: Mapping[str, torch.Tensor]) -> None:
        self.heads, self.activation = layer.attention.self.num_attention_heads, activation
        self.attention_type = torch.bfloat16 if multiplies_bf16() else torch.float32
        attention, output, inner = layer.attention.output, layer.output, layer.intermediate.dense
        joined_weight, joined_bias = joined_query_key_value(layer.attention.self)
        self.attention_input = _ChannelScales(ranges["attention_in"], joined_weight)
        self.query_key_value = self.attention_input.linear(joined_weight, joined_bias)
        self.context_input = _ChannelScales(ranges["context"], attention.dense.weight)
        self.attended = self.context_input.linear(attention.dense.weight, attention.dense.bias)
        self.attended_norm = attention.LayerNorm
        self.inner_input = _ChannelScales(ranges["inner_in"], inner.weight)
        self.inner = self.inner_input.linear(inner.weight, inner.bias)
        self.inner_scale, self.inner_zero = _one_scale(ranges["inner_out"])
        self.outer = Int8Linear(output.dense.weight, output.dense.bias, self.inner_scale, self.inner_zero)
        self.outer_norm = output.LayerNorm

    def __call__(self, hidden_TH: torch.Tensor, blocks: list[Block]) -> torch.Tensor:
        projected_T3H = self.query_key_value(self.attention_input(hidden_TH), self.attention_type)
        context_TH = attend(projected_T3H, blocks, self.heads).float()
        hidden_TH = apply_norm(self.attended_norm, self.attended.plus(self.context_input(context_TH), hidden_TH))
        inner_TI = self.inner.activated(self.inner_input(hidden_TH), self.activation, self.inner_scale, self.inner_zero)
        return apply_norm(self.outer_norm, self.outer.plus(inner_TI, hidden_TH))


class _ChannelScales:
    """Floats to unsigned bytes, with zero at 128 and a scale per channel.

    Large channels are divided by the root of their range over their weights' range: half of the difficulty moves from
    the activations to the weights (the idea of SmoothQuant).
    """

    zero_point = 128

    def __init__(self, largest_I: torch.Tensor, weight_OI: torch.Tensor) -> None:
        largest_I = largest_I.clamp_min(1e-5)
        weights_I = weight_OI.detach().abs().amax(0).clamp_min(1e-5)
        self._weight_factor_I = (largest_I / weights_I).sqrt()
        self.scale = float((largest_I / self._weight_factor_I).max()) / _SIGNED_LEVELS
        self._multiplier_I = 1 / (self._weight_factor_I * self.scale)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return to_bytes(values, self._multiplier_I, self.zero_point)

    def linear(self, weight_OI: torch.Tensor, bias_O: torch.Tensor) -> Int8Linear:
        """The product for inputs that this has made into bytes."""
        return Int8Linear(weight_OI.detach().float() * self._weight_factor_I, bias_O, self.scale, self.zero_point)


def _one_scale(low_high: torch.Tensor) -> tuple[float, int]:
    """Scale and zero point of the activation's output. The zero is rarely in the middle: GELU has a short low end."""
    low, high = low_high.tolist()
    scale = max(low + high, 1e-5) / _UNSIGNED_LEVELS
    return scale, round(low / scale)
