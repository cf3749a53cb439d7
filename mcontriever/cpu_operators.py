"""Private operators of torch, each with a fallback from the public API. No other file calls any.

    PreparedLinear       mkldnn._reorder_linear_weight, _linear_pointwise    inference: weights laid out for oneDNN
    Int8Linear           onednn.qlinear_prepack, qlinear_pointwise           inference with precision int8
    multiply_float32     mkldnn._linear_pointwise                            InfoNCE: oneDNN's product instead of MKL's
    multiply_int8        _int_mm                                             search over rows rounded to 8 bits
    softmax_gradient     _softmax_backward_data                              training: attention's backward
    flash_attention      aten._flash_attention_forward                       training on a GPU with dropout

An operator is tried once on a small product before it is used: one that is missing, refuses or computes something else
is replaced by its fallback. So is one that is right but oneDNN's slow reference, as two are on arm64.

Shapes: T rows of values, I inputs, O outputs; Q queries, P rows of a store, H dimensions, A heads, D head size.
"""

import functools
import timeit
from collections.abc import Callable

import torch
from torch.nn.functional import gelu, linear

from mcontriever.processor import instruction_sets, is_arm64, multiplies_int8

_ROWS_HINT = 2048  # the number of rows that oneDNN chooses its weight layout for
_FUSED_ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
_GELUS = frozenset({"gelu", "gelu_new", "gelu_pytorch_tanh"})
_FAILURES = (AttributeError, RuntimeError, TypeError)
_EXACT_IN_FLOAT32 = 1 << 24  # whole numbers up to this
_LARGEST_INT8 = 127


class PreparedLinear:
    """activation(x W^T + b), with W laid out once. On two cores oneDNN reached 2.3 times MKL's rate in float32."""

    def __init__(
        self,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        activation: str | None = None,
        prepack: bool | None = None,
    ) -> None:
        """`prepack` None: if this torch can."""
        self.prepack = can_prepack(dtype) if prepack is None else prepack
        self.bias = bias_O.detach().to(dtype)
        plain = weight_OI.detach().to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(plain, _ROWS_HINT) if self.prepack else plain
        fused = _FUSED_ACTIVATIONS.get(activation or "") if self.prepack and _fuses(activation) else None
        self.attribute, self.algorithm = fused or ("none", "")
        self.activation = None if fused or activation is None else _activation_in_place(activation)

    def __call__(self, values_TI: torch.Tensor) -> torch.Tensor:
        if self.prepack:
            result = torch.ops.mkldnn._linear_pointwise(
                values_TI, self.weight, self.bias, self.attribute, [], self.algorithm
            )
        else:
            result = linear(values_TI, self.weight, self.bias)
        return result if self.activation is None else self.activation(result)


def _fuses(activation: str | None) -> bool:
    """GELU in oneDNN's AVX2 product takes half as long as the product itself; after it, to the same bits, an eighth."""
    return activation not in _GELUS or is_arm64() or "avx512_f" in instruction_sets()


def _activation_in_place(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Of a tensor that nothing else holds."""
    if name not in _GELUS:
        return activation_function(name)
    return functools.partial(torch.ops.aten.gelu_, approximate="none" if name == "gelu" else "tanh")


def activation_function(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if name == "gelu":
        return gelu
    from transformers.activations import ACT2FN

    return ACT2FN[name]


@functools.cache
def can_prepack(dtype: torch.dtype) -> bool:
    if is_arm64() and dtype == torch.bfloat16:
        return False
    values_TI, weight_OI, bias_O = _small_product()
    try:
        plain, activated = (
            PreparedLinear(weight_OI, bias_O, dtype=dtype, activation=activation, prepack=True)(values_TI.to(dtype))
            for activation in (None, "gelu")
        )
    except _FAILURES:
        return False
    product = values_TI @ weight_OI.T + bias_O
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    return torch.allclose(plain.float(), product, atol=tolerance, rtol=tolerance) and torch.allclose(
        activated.float(), gelu(product), atol=tolerance, rtol=tolerance
    )


@functools.cache
def bf16_slowdown() -> float:
    """How many times as long a product takes in bf16 as in float32 on this processor: measured once, in some 50 ms."""
    values_TI, weight_OI = torch.ones(256, 384), torch.ones(1536, 384)

    def seconds(dtype: torch.dtype) -> float:
        product, values = PreparedLinear(weight_OI, torch.ones(1536), dtype=dtype), values_TI.to(dtype)
        product(values)  # the first call prepares the kernel
        return min(timeit.repeat(lambda: product(values), number=1, repeat=3))

    with torch.inference_mode():
        return seconds(torch.bfloat16) / seconds(torch.float32)


class Int8Linear:
    """x W^T + b for bytes x, whose zero is `zero_point`, in steps of `input_scale`. Weights are rounded per output.

    The fallback multiplies the same rounded numbers in float32: equal embeddings on every processor, only slower.
    """

    def __init__(
        self,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor,
        input_scale: float,
        zero_point: int,
        *,
        native: bool | None = None,
    ) -> None:
        """`native` None: if this processor and this torch can."""
        self.native = can_int8() if native is None else native
        self.input_scale, self.zero_point, self.bias_O = input_scale, zero_point, bias_O.detach().float()
        weight_OI = weight_OI.detach().float()
        self.scale_O = (weight_OI.abs().amax(1) / _LARGEST_INT8).clamp_min(1e-12)
        self.zero_O = torch.zeros(len(weight_OI), dtype=torch.int32)
        rounded_OI = (weight_OI / self.scale_O[:, None]).round()
        if self.native:
            self.weight = torch.ops.onednn.qlinear_prepack(rounded_OI.to(torch.int8), [_ROWS_HINT, weight_OI.shape[1]])
        else:
            steps_O = self.scale_O * input_scale
            self.float_linear = PreparedLinear(rounded_OI * steps_O[:, None], self.bias_O)

    def __call__(self, values_TI: torch.Tensor, output_type: torch.dtype = torch.float32) -> torch.Tensor:
        if not self.native:
            return self.float_linear(values_TI.float().sub_(self.zero_point)).to(output_type)
        return torch.ops.onednn.qlinear_pointwise(
            *self._inputs(values_TI), self.bias_O, 1.0, 0, output_type, "none", [], ""
        )

    def plus(self, values_TI: torch.Tensor, added_TO: torch.Tensor) -> torch.Tensor:
        if not self.native:
            return self(values_TI).add_(added_TO)
        outputs = (self.bias_O, 1.0, 0, torch.float32)
        return torch.ops.onednn.qlinear_pointwise.binary(
            *self._inputs(values_TI), added_TO, *outputs, 1.0, 0, "add", 1.0, "none", [], ""
        )

    def activated(self, values_TI: torch.Tensor, activation: str, scale: float, zero_point: int) -> torch.Tensor:
        """activation(x W^T + b) as bytes of this scale and zero."""
        if not self.native or activation not in _GELUS:
            return to_bytes(activation_function(activation)(self(values_TI)), 1 / scale, zero_point)
        name, algorithm = _FUSED_ACTIVATIONS[activation]
        return torch.ops.onednn.qlinear_pointwise(
            *self._inputs(values_TI), self.bias_O, scale, zero_point, torch.uint8, name, [], algorithm
        )

    def _inputs(self, values_TI: torch.Tensor) -> tuple[object, ...]:
        return values_TI, self.input_scale, self.zero_point, self.weight, self.scale_O, self.zero_O


def to_bytes(values: torch.Tensor, multiplier: "float | torch.Tensor", zero_point: int) -> torch.Tensor:
    """round(values * multiplier) + zero_point in 0 to 255, by way of signed bytes: direct to uint8 is slow."""
    rounded = torch.mul(values, multiplier).round_()
    if zero_point != 128:
        rounded.add_(zero_point - 128)
    return rounded.clamp_(-128, 127).to(torch.int8).bitwise_xor_(-128).view(torch.uint8)


@functools.cache
def can_int8() -> bool:
    """Whether the processor has 8-bit products and torch's are right. Without VNNI they saturate."""
    if not multiplies_int8():
        return False
    values_TI, weight_OI, bias_O = _small_product()
    bytes_TI, largest_OI = to_bytes(values_TI, 40.0, 128), torch.full_like(weight_OI, 4.0)
    try:
        for weights in (weight_OI, largest_OI):
            found, expected = (
                Int8Linear(weights, bias_O, 1 / 40, 128, native=native).plus(bytes_TI, values_TI @ weight_OI.T)
                for native in (True, False)
            )
            if not torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max())):
                return False
    except _FAILURES:
        return False
    return True


def _small_product() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """values_TI, weight_OI, bias_O."""
    generator = torch.Generator().manual_seed(0)
    values_TI, weight_OI = (torch.randn(size, 64, generator=generator) for size in (16, 32))
    return values_TI, weight_OI, torch.randn(32, generator=generator)


def multiply_float32(rows_TI: torch.Tensor, keys_OI: torch.Tensor) -> torch.Tensor:
    """rows @ keys.T. oneDNN's is exact too, and 2.3 times as fast as MKL's on processors that MKL does not favour."""
    if rows_TI.device.type == "cpu" and has_onednn_product():
        return _onednn_product(rows_TI, keys_OI)
    return rows_TI @ keys_OI.T


@functools.cache
def has_onednn_product() -> bool:
    rows_TI, keys_OI, _ = _small_product()
    try:
        return torch.allclose(_onednn_product(rows_TI, keys_OI), rows_TI @ keys_OI.T, atol=1e-5) and not is_arm64()
    except _FAILURES:
        return False


def _onednn_product(rows_TI: torch.Tensor, keys_OI: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows_TI, keys_OI, None, "none", [], "")


def multiply_rows(rows_PH: torch.Tensor, queries_QH: torch.Tensor, out_PQ: torch.Tensor) -> None:
    """rows @ queries.T into `out`, in int32 for int8."""
    if rows_PH.dtype == torch.int8:
        multiply_int8(rows_PH, queries_QH, out_PQ)
    else:
        torch.mm(rows_PH, queries_QH.T, out=out_PQ)


def multiply_int8(rows_PH: torch.Tensor, queries_QH: torch.Tensor, out_PQ: torch.Tensor) -> None:
    """rows @ queries.T in int32, exactly."""
    if has_int8_product():
        torch._int_mm(rows_PH, queries_QH.T, out=out_PQ)
        return
    dtype = torch.float32 if rows_PH.shape[1] * _LARGEST_INT8**2 < _EXACT_IN_FLOAT32 else torch.float64
    out_PQ.copy_(rows_PH.to(dtype) @ queries_QH.to(dtype).T)


@functools.cache
def has_int8_product() -> bool:
    """Without AVX-512's VNNI torch's own is many times slower than float32's; held down to AVX2, its sums saturate."""
    if "avx512_vnni" not in instruction_sets():
        return False
    largest = torch.full((32, 64), _LARGEST_INT8, dtype=torch.int8)
    try:
        return bool((torch._int_mm(largest, largest.T) == 64 * _LARGEST_INT8**2).all())
    except _FAILURES:
        return False


def softmax_gradient(gradient: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """The gradient of what softmax over the last dimension was taken of."""
    if hasattr(torch, "_softmax_backward_data"):
        return torch._softmax_backward_data(gradient, probabilities, -1, probabilities.dtype)
    return plain_softmax_gradient(gradient, probabilities)


def plain_softmax_gradient(gradient: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    weighted = gradient.float() * probabilities.float()
    return (weighted - probabilities.float() * weighted.sum(-1, keepdim=True)).to(probabilities.dtype)


def has_flash_dropout() -> bool:
    """Whether the operator under torch's variable-length attention is there; the public function has no dropout."""
    return hasattr(torch.ops.aten, "_flash_attention_forward")


def flash_attention_with_dropout(
    query_TAD: torch.Tensor,
    key_TAD: torch.Tensor,
    value_TAD: torch.Tensor,
    offsets: torch.Tensor,
    max_length: int,
    dropout: float,
) -> torch.Tensor:
    return torch.ops.aten._flash_attention_forward(
        query_TAD, key_TAD, value_TAD, offsets, offsets, max_length, max_length, dropout, False, False
    )[0]
