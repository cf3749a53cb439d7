"""The momentum encoder: a float32 copy that follows the trained encoder slowly, held outside the module tree.

In bfloat16 it would never move: (1 - 0.999) of a small difference is below the format's resolution. In the module tree
DeepSpeed would shard, cast or broadcast it. Create it before `deepspeed.initialize`, from float32 weights.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from mcontriever.errors import ConfigError, ModelError
from mcontriever.tokens import PackedBatch

GROUP_VALUES = 1 << 26  # parameters that are cast or gathered at a time: 256 MiB in float32


class MomentumEncoder:
    """Not a module. `momentum` may rise to `final_momentum` over `rise_updates`, along a cosine."""

    def __init__(
        self,
        encoder: Any,
        *,
        momentum: float,
        final_momentum: float | None = None,
        rise_updates: int = 0,
        dropout: bool = False,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        for value in (momentum, final_momentum):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"momentum {value} is not between 0 and 1", fix="0.999 is usual")
        if (final_momentum is None) != (rise_updates == 0):
            raise ConfigError(
                f"a rising momentum needs both final_momentum (found {final_momentum}) "
                f"and rise_updates (found {rise_updates})",
                fix="give both or neither",
            )
        self.momentum = momentum
        self.final_momentum = momentum if final_momentum is None else final_momentum
        self.rise_updates = rise_updates
        self.updates = 0
        self.encoder = _frozen_copy(encoder, torch.float32).train(dropout)
        self.computing = self.encoder if compute_dtype is None else _frozen_copy(self.encoder, compute_dtype)
        self.computing.train(dropout)

    @torch.no_grad()
    def encode(self, batch: PackedBatch) -> torch.Tensor:
        device = batch.token_ids_T.device
        if next(self.encoder.parameters()).device != device:
            self.encoder.to(device)
            self.computing.to(device)
        return self.computing(batch).float()

    @torch.no_grad()
    def follow(self, encoder: Any) -> None:
        """own = momentum * own + (1 - momentum) * encoder's, on every rank, whatever the ZeRO stage."""
        share = 1 - self.current_momentum()
        for own, followed in _groups(list(self.encoder.parameters()), list(encoder.parameters())):
            with _gathered(followed):
                torch._foreach_lerp_(own, [value.detach().float() for value in followed], share)
        self.updates += 1
        self._refresh()

    def current_momentum(self) -> float:
        done = min(1.0, self.updates / self.rise_updates) if self.rise_updates else 0.0
        return self.final_momentum - (self.final_momentum - self.momentum) * (1 + math.cos(math.pi * done)) / 2

    def state(self) -> dict[str, torch.Tensor]:
        return {**self.encoder.state_dict(), "updates": torch.tensor(self.updates)}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        weights = {name: value for name, value in state.items() if name != "updates"}
        own = self.encoder.state_dict()
        differing = sorted(
            name
            for name in own.keys() | weights.keys()
            if name not in own or name not in weights or own[name].shape != weights[name].shape
        )
        if differing:
            raise ModelError(
                f"the checkpoint's momentum encoder is of another model: {len(differing)} weights differ, "
                f"the first is {differing[0]}",
                fix="resume with the encoder that the run began with",
            )
        self.encoder.load_state_dict(weights)
        self.updates = int(state["updates"])
        self._refresh()

    @torch.no_grad()
    def _refresh(self) -> None:
        if self.computing is not self.encoder:
            torch._foreach_copy_(list(self.computing.parameters()), list(self.encoder.parameters()))


def _frozen_copy(encoder: Any, dtype: torch.dtype) -> Any:
    tokenizer = getattr(encoder, "tokenizer", None)
    return copy.deepcopy(encoder, {id(tokenizer): tokenizer}).to(dtype).requires_grad_(False)


def _groups(
    own: list[torch.Tensor], followed: list[torch.Tensor]
) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Pairs of parameters, a bounded number of values at a time."""
    assert len(own) == len(followed)
    first, values = 0, 0
    for place, tensor in enumerate(own):
        if place > first and values + tensor.numel() > GROUP_VALUES:
            yield own[first:place], followed[first:place]
            first, values = place, 0
        values += tensor.numel()
    yield own[first:], followed[first:]


def _gathered(parameters: list[torch.Tensor]) -> AbstractContextManager[Any]:
    """Under ZeRO-3 each rank holds a part of every parameter; inside the context it holds all of it."""
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)
