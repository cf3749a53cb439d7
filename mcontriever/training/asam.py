"""Adaptive sharpness-aware minimisation (Kwon et al. 2021): the gradient is taken where the loss is worst nearby.

    e = rho * T^2 g / |T g|,   T = |w| + eta elementwise for weights, 1 for biases

`ascend` takes the gradient g at w over the whole update's batches and ranks, and moves the weights to w + e; the
update's own forward and backward then happen there; `descend` moves them back before the optimizer steps.

Two copies of the weights' size stay in memory, and every pass is in place: on a large embedding table, touching fresh
memory costs ten times the arithmetic.
"""

from collections.abc import Callable, Sequence

import torch

from mcontriever import ranks

TINY = 1e-16


class Asam:
    """For weights that are whole on each rank and in float32: ZeRO stages 0 and 1."""

    def __init__(self, module: torch.nn.Module, *, rho: float, eta: float) -> None:
        named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.parameters: list[torch.Tensor] = [parameter for _, parameter in named]
        self.is_adaptive = ["weight" in name for name, _ in named]
        self.rho, self.eta = rho, eta
        self._weights = [torch.empty_like(parameter) for parameter in self.parameters]
        self._gradients = [torch.empty_like(parameter) for parameter in self.parameters]

    def ascend(self, losses: Sequence[Callable[[], torch.Tensor]]) -> None:
        """`losses` are the forwards of this rank's micro steps. The parameters' own gradients are not touched."""
        gradients = self._sum_gradients(losses)
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self.parameters)
            self._put_scale_in_parameters()
            torch._foreach_mul_(gradients, self.parameters)
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) + TINY
            torch._foreach_mul_(self.parameters, gradients)
            torch._foreach_mul_(self.parameters, self.rho / norm)
            torch._foreach_add_(self.parameters, self._weights)

    @torch.no_grad()
    def descend(self) -> None:
        """Back to the weights before `ascend`, bit for bit."""
        torch._foreach_copy_(self.parameters, self._weights)

    def _put_scale_in_parameters(self) -> None:
        """The weights are saved by now, so their own memory can hold T."""
        for parameter, adaptive in zip(self.parameters, self.is_adaptive, strict=True):
            if adaptive:
                parameter.abs_().add_(self.eta)
            else:
                parameter.fill_(1)

    def _sum_gradients(self, losses: Sequence[Callable[[], torch.Tensor]]) -> list[torch.Tensor]:
        """A sum replaces the mean over micro steps: e is the same for g and for any multiple of it.

        By autograd.grad, which leaves `.grad` alone and does not trigger the hooks that DeepSpeed registers on it.
        """
        for number, loss in enumerate(losses):
            found = torch.autograd.grad(loss(), self.parameters, allow_unused=True, materialize_grads=True)
            # What autograd returns may share its memory, so it is copied and never changed in place.
            (torch._foreach_add_ if number else torch._foreach_copy_)(self._gradients, found)
        return [ranks.average(gradient) for gradient in self._gradients]
