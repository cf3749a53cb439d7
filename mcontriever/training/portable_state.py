"""The optimizer's state as whole tensors by parameter name, to resume with other ranks or another ZeRO stage.

exp_avg/encoder.backbone.embeddings.word_embeddings.weight      like the parameter
step                                                            numbers that all parameters share
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from mcontriever import ranks


def whole_optimizer_state(engine: Any) -> dict[str, torch.Tensor]:
    """Collective: every rank calls it, every rank gets the tensors (on the CPU)."""
    state: dict[str, Any] = next(iter(_torch_optimizer(engine).state.values()), {})
    per_element = [key for key, value in state.items() if torch.is_tensor(value) and value.dim() > 0]
    shared = {key: torch.as_tensor(value).cpu().clone() for key, value in state.items() if key not in per_element}
    whole = {
        f"{key}/{name}": _whole(engine, parameter, key).detach().cpu().contiguous()
        for name, parameter in _trainable(engine)
        for key in per_element
    }
    return {**shared, **whole}


def restore_optimizer_state(engine: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a fresh engine, of any world size and stage, the state that `whole_optimizer_state` returned."""
    shared = {key: value for key, value in tensors.items() if "/" not in key}
    per_element = sorted({key.split("/", 1)[0] for key in tensors if "/" in key})
    optimizer = _torch_optimizer(engine)
    for flat in _optimized_tensors(engine):
        optimizer.state[flat] = {key: value.clone().to(flat.device) for key, value in shared.items()}
        optimizer.state[flat] |= {key: torch.zeros_like(flat) for key in per_element}
    if engine.zero_optimization_stage() in (1, 2):
        engine.optimizer._lazy_init_hp_params_optimizer_state()
    for name, parameter in _trainable(engine):
        for key in per_element:
            _set_whole(engine, parameter, key, tensors[f"{key}/{name}"])


@contextlib.contextmanager
def same_shapes(engine: Any) -> Iterator[None]:
    """Around loading: DeepSpeed takes tensors of any size from its files, and its next step would write beyond them."""
    before = [tensor.shape for tensor in _optimized_tensors(engine)]
    yield
    tensors = _optimized_tensors(engine)
    if [tensor.shape for tensor in tensors] != before:
        raise ValueError("the weights have other sizes than this run's")
    for tensor in tensors:
        state = _torch_optimizer(engine).state[tensor].values()
        if any(torch.is_tensor(value) and value.dim() and value.shape != tensor.shape for value in state):
            raise ValueError("the optimizer's state has other sizes than this run's")


def _trainable(engine: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in engine.module.named_parameters() if parameter.requires_grad]


def _torch_optimizer(engine: Any) -> Any:
    """ZeRO wraps the optimizer that holds the state."""
    return engine.optimizer.optimizer if engine.zero_optimization_stage() else engine.optimizer


def _optimized_tensors(engine: Any) -> list[torch.Tensor]:
    """What the optimizer steps on: the parameters, or under ZeRO this rank's flat stretches of them."""
    if engine.zero_optimization_stage() == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [parameter for group in _torch_optimizer(engine).param_groups for parameter in group["params"]]


def _whole(engine: Any, parameter: torch.nn.Parameter, key: str) -> torch.Tensor:
    if not engine.zero_optimization_stage():
        return engine.optimizer.state[parameter][key]
    from deepspeed.utils import safe_get_full_optimizer_state

    return safe_get_full_optimizer_state(parameter, key)


def _set_whole(engine: Any, parameter: Any, key: str, value: torch.Tensor) -> None:
    stage = engine.zero_optimization_stage()
    if stage == 0:
        engine.optimizer.state[parameter][key].copy_(value)
        return
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    value = value.to(parameter.device)
    if stage == 3:  # its own setter for whole values fails on a size that the ranks do not divide
        size = parameter.ds_tensor.numel()
        padded = torch.nn.functional.pad(value.flatten(), (0, size * ranks.world_size() - value.numel()))
        safe_set_local_optimizer_state(parameter, padded[ranks.rank() * size :][:size], key)
    else:
        safe_set_full_optimizer_state(parameter, value, key)
