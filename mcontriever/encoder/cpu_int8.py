"""Inference in 8-bit integers on the CPU: twice the rate of bf16 products where the processor has VNNI or AMX.

Weights are quantised per output channel, activations with fixed scales learned from a sample of texts (`calibrate`).
Three of a layer's four inputs are scaled channel by channel before they are rounded, so that a few large channels,
which XLM-R has, do not cost the others their bits; the weights take up the inverse. Products, bias, GELU and residual
are one oneDNN operator; attention, norms and residual stay in floating point.

The operator is a private one of torch and is tried once on a small product before use.
Shapes: T tokens in all sequences, H hidden, I inner (4 H); I and O are a product's inputs and outputs.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from mcontriever.encoder.cpu_backbone import (
    FastCpuBackbone,
    Watch,
    activation_function,
    apply_norm,
    attend,
    good_at_bf16,
    joined_query_key_value,
)
from mcontriever.encoder.row_blocks import Block
from mcontriever.tokens import PackedBatch

SITES = ("attention_in", "context", "inner_in")  # ranges per channel; "inner_out" has one range
_FUSED_ACTIVATIONS = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "gelu_pytorch_tanh": ("gelu", "tanh")}
_ROWS_HINT = 2048
_CLIPS = torch.linspace(0.3, 1.0, 15)
_CLIP_SAMPLE = 1 << 16
_SIGNED_LEVELS, _UNSIGNED_LEVELS = 127, 255

Ranges = dict[str, torch.Tensor]


def int8_backbone(backbone: Any, ranges: Mapping[str, torch.Tensor]) -> FastCpuBackbone:
    activation = backbone.config.hidden_act
    layers = [
        _Int8Layer(layer, activation, {name: ranges[f"{number}.{name}"] for name in (*SITES, "inner_out")})
        for number, layer in enumerate(backbone.encoder.layer)
    ]
    return FastCpuBackbone(backbone.embeddings, layers)


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
        self.heads = layer.attention.self.num_attention_heads
        self.attention_type = torch.bfloat16 if good_at_bf16() else torch.float32
        attention, output, inner = layer.attention.output, layer.output, layer.intermediate.dense
        self.attention_input = _ChannelScales(ranges["attention_in"], joined_query_key_value(layer.attention.self)[0])
        self.query_key_value = _Int8Linear(*joined_query_key_value(layer.attention.self), self.attention_input)
        self.context_input = _ChannelScales(ranges["context"], attention.dense.weight)
        self.attended = _Int8Linear(attention.dense.weight, attention.dense.bias, self.context_input)
        self.attended_norm = attention.LayerNorm
        self.inner_input = _ChannelScales(ranges["inner_in"], inner.weight)
        self.inner = _Int8Linear(inner.weight, inner.bias, self.inner_input)
        self.inner_output = _OneScale(ranges["inner_out"])
        self.activation = activation
        self.outer = _Int8Linear(output.dense.weight, output.dense.bias, self.inner_output)
        self.outer_norm = output.LayerNorm

    def __call__(self, hidden_TH: torch.Tensor, blocks: list[Block]) -> torch.Tensor:
        projected_T3H = self.query_key_value(self.attention_input(hidden_TH), self.attention_type)
        context_TH = attend(projected_T3H, blocks, self.heads).float()
        hidden_TH = apply_norm(self.attended_norm, self.attended.plus(self.context_input(context_TH), hidden_TH))
        inner_TI = self.inner.activated(self.inner_input(hidden_TH), self.activation, self.inner_output)
        return apply_norm(self.outer_norm, self.outer.plus(inner_TI, hidden_TH))


class _ChannelScales:
    """Float to unsigned bytes, with zero at 128 and a scale per channel; `weight_factor_I` undoes the channels' part.

    Large channels are divided by the root of their range over their weights' range: half of the difficulty moves from
    the activations to the weights (the idea of SmoothQuant).
    """

    zero_point = 128

    def __init__(self, largest_I: torch.Tensor, weight_OI: torch.Tensor) -> None:
        largest_I = largest_I.clamp_min(1e-5)
        weights_I = weight_OI.detach().abs().amax(0).clamp_min(1e-5)
        self.weight_factor_I = (largest_I / weights_I).sqrt()
        self.scale = float((largest_I / self.weight_factor_I).max()) / _SIGNED_LEVELS
        self._multiplier_I = 1 / (self.weight_factor_I * self.scale)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        rounded = torch.mul(values, self._multiplier_I).round_().clamp_(-128, 127).to(torch.int8)
        return rounded.bitwise_xor_(-128).view(torch.uint8)  # the same as adding 128; direct to uint8 is slow


class _OneScale:
    """One scale and a zero point that is rarely in the middle: GELU's output is hardly ever below zero."""

    def __init__(self, low_high: torch.Tensor) -> None:
        low, high = low_high.tolist()
        self.scale = max(low + high, 1e-5) / _UNSIGNED_LEVELS
        self.zero_point = round(low / self.scale)
        self.weight_factor_I: torch.Tensor | None = None

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        shifted = torch.add(torch.tensor(float(self.zero_point - 128)), values, alpha=1 / self.scale)
        return shifted.round_().clamp_(-128, 127).to(torch.int8).bitwise_xor_(-128).view(torch.uint8)


class _Int8Linear:
    """x W^T + b for inputs that `inputs` made into bytes."""

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor, inputs: "_ChannelScales | _OneScale") -> None:
        weight_OI = weight_OI.detach().float()
        if inputs.weight_factor_I is not None:
            weight_OI = weight_OI * inputs.weight_factor_I
        self.inputs = inputs
        self.scale_O = (weight_OI.abs().amax(1) / _SIGNED_LEVELS).clamp_min(1e-12)
        self.zero_O = torch.zeros(len(weight_OI), dtype=torch.int32)
        self.bias_O = bias_O.detach().float()
        rounded = (weight_OI / self.scale_O[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(rounded, [_ROWS_HINT, weight_OI.shape[1]])

    def __call__(self, values: torch.Tensor, output_type: torch.dtype) -> torch.Tensor:
        return self._product(values, 1.0, 0, output_type, "none", "")

    def activated(self, values: torch.Tensor, activation: str, outputs: _OneScale) -> torch.Tensor:
        """activation(x W^T + b) as bytes again."""
        if activation in _FUSED_ACTIVATIONS:
            name, algorithm = _FUSED_ACTIVATIONS[activation]
            return self._product(values, outputs.scale, outputs.zero_point, torch.uint8, name, algorithm)
        return outputs(activation_function(activation)(self(values, torch.float32)))

    def plus(self, values: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return torch.ops.onednn.qlinear_pointwise.binary(
            *self._inputs(values), residual, self.bias_O, 1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], ""
        )

    def _product(
        self, values: torch.Tensor, scale: float, zero: int, output_type: torch.dtype, name: str, algorithm: str
    ) -> torch.Tensor:
        return torch.ops.onednn.qlinear_pointwise(
            *self._inputs(values), self.bias_O, scale, zero, output_type, name, [], algorithm
        )

    def _inputs(self, values: torch.Tensor) -> tuple[Any, ...]:
        return values, self.inputs.scale, self.inputs.zero_point, self.weight, self.scale_O, self.zero_O


@functools.cache
def can_int8() -> bool:
    """Try the private operator on a small product and compare: present and right, or not used at all."""
    generator = torch.Generator().manual_seed(0)
    values, weight = (torch.randn(size, 64, generator=generator) for size in (16, 32))
    bias, residual = torch.randn(32, generator=generator), torch.randn(16, 32, generator=generator)
    product = values @ weight.T + bias
    expected = torch.nn.functional.gelu(product)
    try:
        inputs, outputs = _ChannelScales(values.abs().amax(0), weight), _OneScale(_best_range(expected))
        linear = _Int8Linear(weight, bias, inputs)
        summed = linear.plus(inputs(values), residual)
        activated = (linear.activated(inputs(values), "gelu", outputs).float() - outputs.zero_point) * outputs.scale
    except (AttributeError, RuntimeError, TypeError):
        return False
    tolerance = 0.03 * float(product.abs().max())
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = [(summed, product + residual), (activated, expected)]
    return all(torch.allclose(found, value, atol=tolerance) for found, value in pairs)
