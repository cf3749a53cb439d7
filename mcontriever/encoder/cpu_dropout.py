"""Dropout on the CPU at a fifth of torch's cost; drawing torch's masks took a sixth of a training step.

Each value takes 16 random bits from numpy's SFC64, seeded by torch's generator: the same torch seed gives the same
masks, so a resumed or checkpointed run repeats them. The rate is exact to 1/65536.
"""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import dropout as torch_dropout

_INTEGER_OF_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}
LEVELS = 1 << 16


def dropout(values: torch.Tensor, rate: float, training: bool = True) -> torch.Tensor:
    """`torch.nn.functional.dropout`, with faster random bits on the CPU."""
    if not training or rate == 0.0:
        return values
    if values.device.type != "cpu":
        return torch_dropout(values, rate)
    dropped: torch.Tensor = _BitDropout.apply(values, rate)
    return dropped


def keep_bits(shape: torch.Size, dtype: torch.dtype, rate: float) -> torch.Tensor:
    """Integers as wide as `dtype`: all bits set with probability 1 - rate, else zero."""
    count = shape.numel()
    seed = int(torch.randint(1 << 62, ()))
    random_bits = np.random.SFC64(seed).random_raw(count // 4 + 1).view(np.int16)[:count]
    threshold = round(rate * LEVELS) - LEVELS // 2
    kept = torch.from_numpy(random_bits) >= threshold
    return kept.to(_INTEGER_OF_WIDTH[dtype.itemsize]).neg_().view(shape)


def apply_bits_(values: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Set dropped values to zero in place, without scaling the others."""
    values.view(bits.dtype).bitwise_and_(bits)
    return values


class _BitDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, rate: float) -> torch.Tensor:
        bits = keep_bits(values.shape, values.dtype, rate)
        ctx.save_for_backward(bits)
        ctx.scale = 1 / (1 - rate)
        return apply_bits_(values * ctx.scale, bits)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (bits,) = ctx.saved_tensors
        return apply_bits_(gradient * ctx.scale, bits), None
