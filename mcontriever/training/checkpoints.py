"""Checkpoints of a run: whole or absent, read without pickle, usable with any number of ranks and any ZeRO stage.

checkpoints/latest                      the name of the newest one
checkpoints/step-00001000/
    state.json                          step, samples seen, schedule, best score, unfinished means
    engine/                             DeepSpeed's files, one per rank: for a fast resume at the same world size
    model/                              the query encoder, a folder that `Encoder.load` and AutoModel open
    checksums.json                      of the two below and of engine/
    optimizer.safetensors               the optimizer's state, whole tensors by name
    objective.safetensors               what is outside the engine: momentum weights, queue, ...
"""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from mcontriever import ranks
from mcontriever.checksums import DAMAGED
from mcontriever.disk import TEMPORARY_PREFIX, sync_file, sync_folder, write_bytes, write_json
from mcontriever.encoder.model_checksums import damaged_weights, write_checksums
from mcontriever.encoder.rounded_training import feels_rounding
from mcontriever.errors import StoreError, UserError
from mcontriever.progress import log
from mcontriever.records import Count, checked_record, read_record
from mcontriever.training.agreement import on_main_rank, together
from mcontriever.training.engine import whole_parameter
from mcontriever.training.portable_state import restore_optimizer_state, same_shapes, whole_optimizer_state

NAME = re.compile(r"step-(\d{8,})")
STATE, MODEL, ENGINE = "state.json", "model", "engine"
OPTIMIZER, OBJECTIVE = "optimizer.safetensors", "objective.safetensors"
BEFORE = "remove this folder; the same command then resumes from the one before"
WRITE_ERRORS = (OSError, RuntimeError, safetensors.SafetensorError)


@dataclass(frozen=True)
class _Progress:
    step: Count
    samples: Count


def checkpoint_name(step: int) -> str:
    return f"step-{step:08}"


def checkpoints_of(run: Path) -> list[Path]:
    """All whole checkpoints of a run, oldest first: one that was cut short still has its temporary name."""
    named = ((NAME.fullmatch(path.name), path) for path in (run / "checkpoints").glob("step-*"))
    return [path for _, path in sorted((int(match[1]), path) for match, path in named if match)]


def newest_checkpoint(run: Path) -> Path | None:
    return next(reversed(checkpoints_of(run)), None)


def step_of(run: Path) -> int:
    """Of the run's newest checkpoint; 0 without one."""
    checkpoint = newest_checkpoint(run)
    return 0 if checkpoint is None else int(read_state(checkpoint)["step"])


def write_checkpoint(
    run: Path, state: Mapping[str, Any], engine: Any, whole_encoder: Any, *, card: str, attachments: Mapping[str, bytes]
) -> Path:
    """Collective. Everything goes to a temporary folder, reaches the disk, and takes its name at the very end."""
    target = run / "checkpoints" / checkpoint_name(state["step"])
    if on_main_rank(target.exists):
        return target
    temporary = target.with_name(TEMPORARY_PREFIX + target.name)
    try:
        together(lambda: _write_engine(engine, temporary))
        tensors = {**whole_optimizer_state(engine), **_other_weights(engine.module)}
        encoder = whole_encoder.now()

        def write_rest() -> None:
            encoder.save(temporary / MODEL, card=card, attachments=attachments)
            save_file(tensors, temporary / OPTIMIZER)
            save_file(_plain(engine.module.state()), temporary / OBJECTIVE)
            write_checksums(temporary)
            write_json(temporary / STATE, {**state, **_engine_facts(engine)})
            _publish(temporary, target)

        on_main_rank(lambda: _explained(write_rest, target))
    finally:
        if ranks.is_main():
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def read_state(checkpoint: Path) -> dict[str, Any]:
    what = "not the state of a training run"
    values = read_record(checkpoint / STATE, dict[str, Any], fix="restore the checkpoint", what=what)
    checked_record(values, _Progress, checkpoint / STATE, fix="restore the checkpoint", what=what)
    return values


def load_other_weights(checkpoint: Path | None, objective: torch.nn.Module) -> None:
    """The weights that the checkpoint's model does not hold; before the engine takes the module. None: a new run."""
    if checkpoint is None:
        return
    damaged = damaged_weights(checkpoint, BEFORE) if ranks.is_main() else None
    if damaged is not None:
        raise StoreError(f"the checkpoint cannot be read: {damaged.name} {DAMAGED}", where=checkpoint, fix=BEFORE)
    tensors = _tensors(checkpoint, OPTIMIZER)
    with _reading(checkpoint, OPTIMIZER), torch.no_grad():
        for name, parameter in _beside_model(objective):
            parameter.copy_(tensors[f"weight/{name}"])


def restore_engine(checkpoint: Path | None, engine: Any) -> None:
    """Collective: optimizer, schedule and counters, by DeepSpeed's own files or the portable ones. None: a new run."""
    if checkpoint is None:
        return
    state = read_state(checkpoint)
    same_ranks = all(state[key] == value for key, value in _engine_facts(engine).items() if key != "scheduler")
    with _reading(checkpoint, ENGINE if same_ranks else OPTIMIZER):
        if same_ranks:
            with same_shapes(engine):
                engine.load_checkpoint(str(checkpoint), tag=ENGINE)
        else:
            _restore_portable(checkpoint, engine, state)
    with _reading(checkpoint, OBJECTIVE):
        engine.module.load_state(_tensors(checkpoint, OBJECTIVE))
    log.info(f"resuming from {checkpoint}" + ("" if same_ranks else ", with other ranks or another ZeRO stage"))


def _restore_portable(checkpoint: Path, engine: Any, state: Mapping[str, Any]) -> None:
    tensors = _tensors(checkpoint, OPTIMIZER)
    moments = {name: tensor for name, tensor in tensors.items() if not name.startswith("weight/")}
    restore_optimizer_state(engine, moments)
    engine.global_steps = state["step"]
    if engine.lr_scheduler is not None:
        engine.lr_scheduler.load_state_dict(state["scheduler"])
        engine.lr_scheduler.step(state["scheduler"]["last_batch_iteration"])


def prune(run: Path, keep_last: int, keep_also: str | None) -> None:
    """Remove all but the newest `keep_last` and the one named `keep_also`."""
    for path in checkpoints_of(run)[:-keep_last]:
        if path.name != keep_also:
            shutil.rmtree(path, ignore_errors=True)


def _write_engine(engine: Any, temporary: Path) -> None:
    files = engine.checkpoint_engine
    files.write_error = None
    if ranks.is_main():
        shutil.rmtree(temporary, ignore_errors=True)
        _explained(lambda: (temporary / ENGINE).mkdir(parents=True), temporary)
    engine.save_checkpoint(str(temporary), tag=ENGINE, save_latest=False)
    if files.write_error is not None:
        raise _write_failed(temporary, files.write_error) from files.write_error


def _publish(temporary: Path, target: Path) -> None:
    for script in temporary.glob("zero_to_*.py"):  # DeepSpeed's: they look for a layout that is not ours
        script.unlink()
    for file in temporary.rglob("*"):
        if file.is_file():
            sync_file(file)
        else:
            sync_folder(file)
    sync_folder(temporary)
    temporary.rename(target)
    sync_folder(target.parent)
    write_bytes(target.parent / "latest", f"{target.name}\n".encode())


def _explained(write: Any, place: Path) -> None:
    try:
        write()
    except WRITE_ERRORS as error:
        raise _write_failed(place, error) from error


def _write_failed(place: Path, error: Exception) -> StoreError:
    reason = " ".join(str(error).split())[:200]
    return StoreError(
        f"the checkpoint could not be written: {reason}",
        where=place.parent,
        fix="free some space, then run the same command again: it resumes from the last whole checkpoint",
    )


def _tensors(checkpoint: Path, name: str) -> dict[str, torch.Tensor]:
    with _reading(checkpoint, name):
        return load_file(checkpoint / name)


@contextlib.contextmanager
def _reading(checkpoint: Path, name: str) -> Iterator[None]:
    """DeepSpeed and torch check little of what they read, so damage shows as any exception."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise StoreError(f"the checkpoint cannot be read: {name}: {reason}", where=checkpoint, fix=BEFORE) from error


def _engine_facts(engine: Any) -> dict[str, Any]:
    """What must be the same for DeepSpeed's own files to fit, and its schedule for when they do not."""
    import deepspeed

    return {
        "world_size": ranks.world_size(),
        "zero_stage": int(engine.zero_optimization_stage()),
        "deepspeed": deepspeed.__version__,
        "scheduler": json.loads(json.dumps(engine.lr_scheduler.state_dict())) if engine.lr_scheduler else None,
    }


def _other_weights(objective: torch.nn.Module) -> dict[str, torch.Tensor]:
    beside = _beside_model(objective)
    return {f"weight/{name}": whole_parameter(parameter).cpu().clone() for name, parameter in beside}


def _beside_model(objective: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """A learned temperature, say. A model that is not saved as it is trained has all its weights listed."""
    named = list(objective.named_parameters())
    folded = any(name.startswith("encoder.token_weights.") for name, _ in named) or feels_rounding(objective)
    in_model = ("encoder.backbone.", "encoder.queries.backbone.")
    return [(name, parameter) for name, parameter in named if folded or not name.startswith(in_model)]


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
