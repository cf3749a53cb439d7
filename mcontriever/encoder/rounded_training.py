"""Training with the rounding of `mcontriever export --weights int4-blocks`: `encoder.rounding: int4-blocks`.

A model that is rounded after training loses its small updates, because they are smaller than a step of
the grid. So every forward computes with the rounded weights, and the gradient of a rounded weight moves the weight
itself (a straight-through estimate). Once enough updates agree, the rounded weight takes the next step.

Checkpoints keep the weights themselves; a saved model holds them as rounded, so that its export loses nothing.
"""

import copy
from typing import Any

import torch
from torch.nn.functional import linear

from mcontriever.encoder.four_bit_blocks import rounded, takes_blocks


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        return rounded(weight.float()).to(weight.dtype)  # a key encoder computes in bfloat16

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class RoundedLinear(torch.nn.Linear):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return linear(values, _Rounded.apply(self.weight), self.bias)


class RoundedEmbedding(torch.nn.Embedding):
    """A block is part of one row, so it is enough to round the rows that a batch needs."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return _Rounded.apply(super().forward(ids))


_ROUNDED: dict[type, type] = {torch.nn.Linear: RoundedLinear, torch.nn.Embedding: RoundedEmbedding}


def feel_rounding(backbone: Any) -> None:
    """In place: modules keep their weights and names, and compute with the weights as rounded."""
    for name, module in backbone.named_modules():
        if type(module) in _ROUNDED and takes_blocks(f"{name}.weight", module.weight):
            module.__class__ = _ROUNDED[type(module)]


def feels_rounding(module: torch.nn.Module) -> bool:
    return any(isinstance(part, tuple(_ROUNDED.values())) for part in module.modules())


def as_rounded(backbone: Any) -> Any:
    """A plain copy that holds the weights as rounded."""
    plain = {kind: original for original, kind in _ROUNDED.items()}
    duplicate = copy.deepcopy(backbone)
    with torch.no_grad():
        for module in duplicate.modules():
            if type(module) in plain:
                module.weight.copy_(rounded(module.weight))
                module.__class__ = plain[type(module)]
    return duplicate
