"""Adaptive sharpness-aware minimisation (Kwon et al. 2021): the gradient is taken where the loss is worst nearby.

    e = rho * T^2 g / |T g|,   T = |w| + eta elementwise for weights, 1 for biases

`ascend` takes the gradient g at w over the whole update's batches and ranks, and moves the weights to w + e; the
update's own forward and backward then happen there; `descend` moves them back before the optimizer steps.
"""

from collections.abc import Callable, Sequence

import torch

from mcontriever import ranks

TINY = 1e-16


class Asam:
    """For weights that are whole on each rank and in float32: ZeRO stages 0 and 1."""

    def __init__(self, module: torch.nn.Module, *, rho: float, eta: float) -> None:
        named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.parameters = [parameter for _, parameter in named]
        self.is_adaptive = ["weight" in name for name, _ in named]
        self.rho, self.eta = rho, eta
        self._weights: list[torch.Tensor] = []

    def ascend(self, losses: Sequence[Callable[[], torch.Tensor]]) -> None:
        """`losses` are the forwards of this rank's micro steps. Parameters' own gradients are left alone."""
        gradients = self._gradients(losses)
        with torch.no_grad():
            scaled = [
                gradient * self._scale(parameter) if adaptive else gradient
                for parameter, gradient, adaptive in zip(self.parameters, gradients, self.is_adaptive, strict=True)
            ]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(scaled))) + TINY
            self._weights = [parameter.detach().clone() for parameter in self.parameters]
            for parameter, gradient, adaptive in zip(self.parameters, scaled, self.is_adaptive, strict=True):
                step = gradient * self._scale(parameter) if adaptive else gradient
                parameter.add_(step * (self.rho / norm))

    @torch.no_grad()
    def descend(self) -> None:
        """Back to the very weights that `ascend` left, bit for bit."""
        torch._foreach_copy_(self.parameters, self._weights)
        self._weights = []

    def _scale(self, parameter: torch.Tensor) -> torch.Tensor:
        return parameter.detach().abs() + self.eta

    def _gradients(self, losses: Sequence[Callable[[], torch.Tensor]]) -> list[torch.Tensor]:
        """By autograd.grad, which leaves `.grad` alone and does not wake the hooks that DeepSpeed hangs on it."""
        total = [torch.zeros_like(parameter) for parameter in self.parameters]
        for loss in losses:
            found = torch.autograd.grad(loss(), self.parameters, allow_unused=True, materialize_grads=True)
            torch._foreach_add_(total, list(found), alpha=1 / len(losses))
        return [ranks.average(gradient) for gradient in total]
