"""Errors and measurements that all ranks share, so that none waits in a collective for one that has stopped."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from mcontriever.errors import UserError

Value = TypeVar("Value")


def together(action: Callable[[], Value]) -> Value:
    """Run `action` on every rank; if it fails with a UserError on one of them, every rank raises that error."""
    values, error = list[Value](), None
    try:
        values.append(action())
    except UserError as caught:
        error = caught
    first = next((item for item in _gather(error) if item is not None), None)
    if first is not None:
        raise first
    return values[0]


def on_main_rank(action: Callable[[], Value]) -> Value:
    """Run `action` on rank 0 only; every rank gets its value, or raises its UserError."""
    outcome: list[Any] = [None, None]
    if torch.distributed.get_rank() == 0:
        try:
            outcome[0] = action()
        except UserError as error:
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0)
    if isinstance(outcome[1], UserError):
        raise outcome[1]
    value: Value = outcome[0]
    return value


def mean_over_ranks(
    means: Mapping[str, torch.Tensor | float], sums: Mapping[str, float], device: torch.device
) -> dict[str, float]:
    """One all-reduce for everything a step measured: `means` are averaged over the ranks, `sums` are added."""
    names = [*means, *sums]
    tensors = [torch.as_tensor(value, dtype=torch.float64) for value in [*means.values(), *sums.values()]]
    values = torch.stack([tensor.detach().to(device) for tensor in tensors])
    torch.distributed.all_reduce(values)
    values[: len(means)] /= torch.distributed.get_world_size()
    return dict(zip(names, values.tolist(), strict=True))


def _gather(error: UserError | None) -> list[UserError | None]:
    gathered: list[UserError | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, error)
    return gathered
