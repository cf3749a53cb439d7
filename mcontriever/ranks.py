"""Ranks of a distributed run, and gathers with correct gradients. In one process everything here is the identity.

    every_key_GH = gather_with_grad(key_BH)      # rows in rank order, G = world size * B

The convention that makes N ranks equal one rank on the joined batch: each rank's loss is the mean over *its own*
rows, and the gradients of the parameters are averaged over ranks, as DeepSpeed and DDP do. The loss of the joined
batch is then the average of the ranks' losses, and the gradient that a gathered row sends home is the *sum* of what
all ranks computed for it. Nothing else is scaled.

Shapes: B rows of one rank, G rows of all ranks, H hidden.
"""

from typing import Any

import torch
from torch import distributed

from mcontriever.errors import RunError


def world_size() -> int:
    return distributed.get_world_size() if _initialised() else 1


def rank() -> int:
    return distributed.get_rank() if _initialised() else 0


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    if world_size() > 1:
        distributed.barrier()


def gather_with_grad(rows_BH: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks, in rank order, differentiable on every rank. All ranks must call it, and go backward."""
    if world_size() == 1:
        return rows_BH
    check_equal_shapes(rows_BH)
    return _GatherWithGrad.apply(rows_BH)


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks, in rank order, without gradient."""
    if world_size() == 1:
        return rows.detach()
    check_equal_shapes(rows)
    return _gather(rows.detach())


def average(value: torch.Tensor) -> torch.Tensor:
    """The mean over ranks of each rank's value, without gradient."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / world_size()


def broadcast_object(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if world_size() == 1:
        return value
    holder = [value]
    distributed.broadcast_object_list(holder, src=0)
    return holder[0]


def check_equal_shapes(rows: torch.Tensor) -> None:
    """Ranks that gather different shapes hang or mix up rows silently, so they compare shapes first."""
    shapes = [torch.zeros(1 + rows.dim(), dtype=torch.long, device=rows.device) for _ in range(world_size())]
    distributed.all_gather(shapes, torch.tensor([rows.dim(), *rows.shape], device=rows.device))
    found = [shape.tolist()[1:] for shape in shapes]
    if any(shape != found[0] for shape in found):
        listed = ", ".join(f"rank {number} has {shape}" for number, shape in enumerate(found))
        raise RunError(
            f"ranks disagree on the shape to gather: {listed}",
            fix="give every rank the same number of rows in every batch",
        )


def _initialised() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _gather(rows: torch.Tensor) -> torch.Tensor:
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class _GatherWithGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_BH: torch.Tensor) -> torch.Tensor:
        ctx.rows = rows_BH.shape[0]
        return _gather(rows_BH)

    @staticmethod
    def backward(ctx: Any, grad_GH: torch.Tensor) -> torch.Tensor:
        grad_GH = grad_GH.contiguous().clone()
        distributed.all_reduce(grad_GH)
        return grad_GH[rank() * ctx.rows : (rank() + 1) * ctx.rows]
