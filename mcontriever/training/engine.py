"""The DeepSpeed engine around an objective: start it, take a step that NaN cannot spoil, read its whole weights."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch

from mcontriever.errors import ConfigError
from mcontriever.training.engine_settings import zero_stage


def start_engine(objective: torch.nn.Module, settings: Mapping[str, Any]) -> Any:
    """`settings` are complete (see engine_settings.py); only trainable parameters go to the optimizer."""
    import deepspeed

    from mcontriever.training.safe_files import SafeFiles

    trainable = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    try:
        engine, *_ = deepspeed.initialize(
            model=objective, model_parameters=trainable, config=copy.deepcopy(dict(settings))
        )
    except (ValueError, TypeError, AssertionError, KeyError, AttributeError) as error:
        raise ConfigError(f"DeepSpeed refuses its block: {' '.join(str(error).split())}", where="deepspeed") from error
    engine.checkpoint_engine = SafeFiles()
    return engine


def stop_engine(engine: Any) -> None:
    engine.destroy()


def take_step(engine: Any) -> float:
    """Apply the accumulated gradient; returns its norm. If the norm is not finite, nothing was applied.

    ZeRO-1 to 3 skip such an update; ZeRO-0 would apply it, so the norm is computed before.
    """
    if zero_stage_of(engine) == 0:
        norm = _gradient_norm(engine.module)
        if math.isfinite(norm):
            engine.step()
        return norm
    engine.step()
    return float(engine.get_global_grad_norm()) if engine.was_step_applied() else math.nan


def zero_stage_of(engine: Any) -> int:
    return int(engine.zero_optimization_stage())


class WholeEncoder:
    """The query encoder with all its weights on this rank: itself, or under ZeRO-3 a copy filled from the shards."""

    def __init__(self, encoder: Any, settings: Mapping[str, Any]) -> None:
        """Before `deepspeed.initialize`, while the weights are still whole."""
        self._encoder = encoder
        self._copy = copy.deepcopy(encoder) if zero_stage(settings) == 3 else None

    def now(self) -> Any:
        """Collective: every rank calls it."""
        if self._copy is None:
            return self._encoder
        with torch.no_grad():
            for whole, shard in zip(self._copy.parameters(), self._encoder.parameters(), strict=True):
                whole.copy_(whole_parameter(shard))
        return self._copy


def whole_parameter(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Its float32 values, gathered from the ranks that hold its parts under ZeRO-3. Collective."""
    if not hasattr(parameter, "ds_id"):
        return parameter.detach()
    import deepspeed

    if parameter.requires_grad:
        return deepspeed.utils.safe_get_full_fp32_param(parameter)
    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()


def _gradient_norm(module: torch.nn.Module) -> float:
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    return float(torch.linalg.vector_norm(torch.stack(norms)))
