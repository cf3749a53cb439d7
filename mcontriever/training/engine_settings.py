"""The `deepspeed:` block: checked, completed and passed to DeepSpeed."""

import difflib
import functools
import math
from collections.abc import Mapping
from typing import Any

import torch

from mcontriever.cpu_operators import bf16_slowdown
from mcontriever.errors import ConfigError
from mcontriever.processor import trains_in_bf16
from mcontriever.progress import log

# Those that hold keys of their own.
SECTIONS = frozenset(
    [
        "optimizer",
        "scheduler",
        "zero_optimization",
        "torch_autocast",
        "bf16",
        "fp16",
        "data_types",
        "aio",
        "timers",
        "flops_profiler",
        "comms_logger",
    ]
)
# DeepSpeed ignores a top-level key that it does not know: a misspelt `zero_optimization` would train without it.
KEYS = SECTIONS | {
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "communication_data_type",
    "prescale_gradients",
    "gradient_predivide_factor",
    "disable_allgather",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "steps_per_print",
    "wall_clock_breakdown",
    "memory_breakdown",
    "dump_state",
}
ELSEWHERE = {
    "activation_checkpointing": "set encoder.checkpoint_layers: true",
    "tensorboard": "set run.tensorboard: true",
    "wandb": "set run.wandb: PROJECT",
    "checkpoint": "checkpoints are run.save_every and run.keep_last",
    "amp": "set torch_autocast: {enabled: true, dtype: bfloat16}",
}
NEVER = 10**12
AUTO = "auto"  # torch_autocast.enabled: where the device multiplies bf16 natively


def well_formed(block: Mapping[str, Any]) -> dict[str, Any]:
    """The block without nulls; every key is one that this trainer passes on, and what has keys of its own is a section.

    A key that is set to null is as if it were not there, as `--set deepspeed.torch_autocast=null` means it.
    """
    found: dict[str, Any] = _without_nulls(block)
    for key, value in found.items():
        if key in ELSEWHERE:
            raise ConfigError(f"deepspeed.{key} does nothing in this trainer", fix=ELSEWHERE[key])
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            fix = f"did you mean deepspeed.{near[0]}?" if near else f"valid keys: {', '.join(sorted(KEYS))}"
            raise ConfigError(f"unknown key deepspeed.{key}", fix=fix)
        if key in SECTIONS:
            _check_section(f"deepspeed.{key}", value)
            _check_section(f"deepspeed.{key}.params", value.get("params", {}))
    return found


def _without_nulls(given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    return {key: _without_nulls(value) for key, value in given.items() if value is not None}


def _check_section(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {value!r}, and not a section", fix=f"give its keys, or omit {name}")


def complete_settings(block: Mapping[str, Any], *, world_size: int, total_steps: int) -> dict[str, Any]:
    """What `deepspeed.initialize` takes, with the three batch sizes resolved for this world size.

    `block` is well formed.
    """
    _check_numbers(block)
    _check_precision(block)
    _check_zero(block)
    settings = {"steps_per_print": NEVER, **block, **_batch_sizes(block, world_size)}
    if "torch_autocast" in block:
        settings["torch_autocast"] = {**block["torch_autocast"], "enabled": autocast_dtype(block) is not None}
    if "scheduler" in block:
        settings["scheduler"] = _check_scheduler(block["scheduler"], total_steps)
    _check_optimizer(block)
    return settings


def rows_in_a_loss(settings: Mapping[str, Any]) -> int:
    """Samples that meet each other in an in-batch loss: those of one micro step, over all ranks."""
    return int(settings["train_batch_size"] // settings["gradient_accumulation_steps"])


def zero_stage(block: Mapping[str, Any]) -> int:
    stage = (block.get("zero_optimization") or {}).get("stage", 0)
    if stage not in (0, 1, 2, 3):
        raise ConfigError(f"deepspeed.zero_optimization.stage is {stage!r}", fix="choose 0, 1, 2 or 3")
    return int(stage)


def autocast_dtype(block: Mapping[str, Any]) -> str | None:
    """The name of the type that matrix products run in, or None for float32."""
    autocast = block.get("torch_autocast") or {}
    enabled = trains_in_bf16() if autocast.get("enabled") == AUTO else autocast.get("enabled")
    return str(autocast.get("dtype", "bfloat16")) if enabled else None


def _check_numbers(block: Mapping[str, Any]) -> None:
    """What DeepSpeed itself finds out at the first update."""
    clipping, steps = block.get("gradient_clipping", 0.0), block.get("steps_per_print", NEVER)
    if not isinstance(clipping, int | float) or not clipping >= 0:
        raise ConfigError(f"deepspeed.gradient_clipping is {clipping!r}", fix="give the largest norm, or 0 for none")
    if not isinstance(steps, int) or steps < 1:
        raise ConfigError(f"deepspeed.steps_per_print is {steps!r}", fix="give a whole number from 1, or omit it")


def _check_precision(block: Mapping[str, Any]) -> None:
    autocast = "set deepspeed.torch_autocast: {enabled: true, dtype: bfloat16, lower_precision_safe_modules: []}"
    if (block.get("fp16") or {}).get("enabled") or autocast_dtype(block) in ("float16", "fp16"):
        raise ConfigError("fp16 is set, but contrastive scores overflow it and its loss scale hides NaN", fix=autocast)
    if (block.get("bf16") or {}).get("enabled"):
        raise ConfigError(
            "deepspeed.bf16 keeps the weights in bf16: the momentum encoder would follow rounded weights", fix=autocast
        )
    autocast_block = block.get("torch_autocast") or {}
    if autocast_block.get("enabled", False) not in (True, False, AUTO):
        raise ConfigError(
            f"deepspeed.torch_autocast.enabled is {autocast_block['enabled']!r}", fix="set it to true, false or auto"
        )
    if (dtype := autocast_dtype(block)) not in (None, "bfloat16", "bf16", "torch.bfloat16"):
        raise ConfigError(f"deepspeed.torch_autocast.dtype is {dtype!r}", fix=f"{autocast}, or omit it for float32")
    if autocast_block.get("enabled") is True and not torch.cuda.is_available() and not trains_in_bf16():
        _warn_of_emulated_bf16()
    exchanged = autocast_block.get("lower_precision_safe_modules")
    if autocast_dtype(block) and exchanged != [] and zero_stage(block) == 3:
        log.warning(
            "torch_autocast exchanges weights and gradients of ZeRO-3 in bf16: a resumed run may differ in the last "
            "bits; lower_precision_safe_modules: [] exchanges them in fp32"
        )


@functools.cache
def _warn_of_emulated_bf16() -> None:
    log.warning(
        f"torch_autocast: this processor emulates bfloat16, so products take {bf16_slowdown():.1f} times as long as in "
        "float32; set deepspeed.torch_autocast.enabled: auto"
    )


def _check_zero(block: Mapping[str, Any]) -> None:
    zero = block.get("zero_optimization") or {}
    zero_stage(block)
    for part in ("offload_optimizer", "offload_param"):
        if (zero.get(part) or {}).get("device") == "nvme":
            raise ConfigError(
                f"deepspeed.zero_optimization.{part}.device is nvme: no other number of processes can resume it",
                fix="use device: cpu, or more GPUs; an encoder fits",
            )


def _batch_sizes(block: Mapping[str, Any], world_size: int) -> dict[str, int]:
    names = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    given = [block.get(name) for name in names]
    for name, value in zip(names, given, strict=True):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"deepspeed.{name} is {value!r}", fix="give a whole number from 1")
    total, rows, micro_steps = (value or 0 for value in given)
    if not rows and not total:
        raise ConfigError(
            "the deepspeed block has no batch size",
            fix="set train_micro_batch_size_per_gpu (rows per GPU), or train_batch_size (rows over all GPUs)",
        )
    if total and not rows and total % ((micro_steps or 1) * world_size):
        raise ConfigError(
            f"train_batch_size {total} does not divide by {world_size} processes"
            + (f" x {micro_steps} accumulation steps" if micro_steps else ""),
            where="deepspeed",
            fix="use a number of processes that divides it, or change it",
        )
    total = total or rows * (micro_steps or 1) * world_size
    rows = rows or total // ((micro_steps or 1) * world_size)
    micro_steps = micro_steps or max(1, total // (max(rows, 1) * world_size))
    if rows < 1 or rows * micro_steps * world_size != total:
        raise ConfigError(
            f"train_batch_size {total} is not {rows} rows x {micro_steps} accumulation steps x {world_size} processes",
            where="deepspeed",
            fix="make train_batch_size a multiple of train_micro_batch_size_per_gpu x processes",
        )
    return dict(zip(names, (total, rows, micro_steps), strict=True))


def _check_scheduler(scheduler: Mapping[str, Any], total_steps: int) -> dict[str, Any]:
    values = dict(scheduler.get("params") or {})
    if "Decay" in str(scheduler.get("type")) or "Cosine" in str(scheduler.get("type")):
        values.setdefault("total_num_steps", total_steps)
        if not isinstance(values["total_num_steps"], int | float):
            raise ConfigError(
                f"deepspeed.scheduler.params.total_num_steps is {values['total_num_steps']!r}",
                fix="omit it (it is then run.steps)",
            )
        if values["total_num_steps"] < total_steps:
            raise ConfigError(
                f"the schedule ends at step {values['total_num_steps']}, the run at step {total_steps}: "
                "the rest would train with learning rate 0",
                where="deepspeed.scheduler.params.total_num_steps",
                fix="omit it (it is then run.steps), or raise it",
            )
        warmup = values.get("warmup_num_steps", 0)
        if isinstance(warmup, int | float) and warmup >= values["total_num_steps"]:
            log.warning(f"the warm-up takes {warmup} steps, the run has {total_steps}: the full rate is never reached")
    return {**scheduler, "params": values}


def _check_optimizer(block: Mapping[str, Any]) -> None:
    optimizer = block.get("optimizer") or {}
    if "type" not in optimizer:
        raise ConfigError(
            "the deepspeed block names no optimizer",
            fix="for example optimizer: {type: AdamW, params: {lr: 5e-5, torch_adam: true, fused: true}}",
        )
    rate = (optimizer.get("params") or {}).get("lr")
    if not isinstance(rate, int | float) or not math.isfinite(rate) or rate <= 0:
        raise ConfigError(f"deepspeed.optimizer.params.lr is {rate!r}", fix="give a learning rate above 0")
