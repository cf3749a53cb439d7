"""A run's folder: one writer, one configuration, and a mark when it is finished.

config.yaml  metrics.jsonl  scores.jsonl  checkpoints/  best/  model/  finished.json
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mcontriever import ranks
from mcontriever.disk import FolderLock, remove_temporaries, write_bytes, write_json
from mcontriever.errors import ConfigError, StoreError
from mcontriever.output_folder import FolderKind
from mcontriever.records import Count, checked_record, read_record
from mcontriever.training.agreement import on_main_rank
from mcontriever.training.checkpoints import checkpoints_of

# What may change between two starts of one run: how long it is, how it is logged and on what machine it runs.
MAY_CHANGE = (
    "run.output",
    "run.steps",
    "run.stop_at",
    "run.log_every",
    "run.save_every",
    "run.keep_last",
    "run.tensorboard",
    "run.wandb",
    "evaluation.",
    "deepspeed.zero_optimization",
    # How a batch is divided may change, the batch may not: checkpoints tell how large it is.
    "deepspeed.train_batch_size",
    "deepspeed.train_micro_batch_size_per_gpu",
    "deepspeed.gradient_accumulation_steps",
    "objective.rows_per_sub_batch",
)


@dataclass(frozen=True)
class _Finished:
    step: Count
    stopped_early: bool


RUN = FolderKind("training run", marks=("config.yaml", "checkpoints"))


@contextlib.contextmanager
def open_run_folder(path: Path, values: Mapping[str, Any], chosen: Mapping[str, Any]) -> Iterator[Path]:
    """Collective. Lock the folder, refuse it if it holds a run of another configuration, and store this one.

    `chosen` are the values that differ from their defaults: a key that an older version did not have must not.
    """
    lock = FolderLock(path) if ranks.is_main() else contextlib.nullcontext()

    def prepare() -> None:
        RUN.require_own(path)
        lock.__enter__()
        remove_temporaries(path)
        _check_same_run(path, values, chosen)
        (path / "checkpoints").mkdir(exist_ok=True)
        remove_temporaries(path / "checkpoints")
        write_bytes(path / "config.yaml", dump(values).encode())

    try:
        on_main_rank(prepare)
        yield path
    finally:
        if getattr(lock, "_handle", None) is not None:
            lock.__exit__(None, None, None)


def dump(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def mark_finished(run: Path, facts: Mapping[str, Any]) -> None:
    write_json(run / "finished.json", dict(facts))


def finished_facts(run: Path, total_steps: int) -> dict[str, Any] | None:
    """What was written when the run ended, or None if it did not end or was given more steps since."""
    if not (run / "finished.json").exists():
        return None
    facts = read_record(run / "finished.json", dict[str, Any])
    checked_record(facts, _Finished, run / "finished.json", fix="remove this file; the run then ends again")
    return facts if facts["step"] >= total_steps or facts["stopped_early"] else None


def _check_same_run(path: Path, values: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """A start that wrote no checkpoint does not count."""
    file = path / "config.yaml"
    if not file.exists():
        strangers = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
        if strangers:
            raise StoreError(
                f"the folder holds {', '.join(sorted(strangers)[:3])} but no training run",
                where=path,
                fix="set run.output to a new folder",
            )
        return
    if not checkpoints_of(path):
        return
    before, now = flat(yaml.safe_load(file.read_text(encoding="utf-8"))), flat(values)
    names = tuple(flat(chosen))
    now = {
        key: value for key, value in now.items() if key in before or f"{key}.".startswith(tuple(f"{n}." for n in names))
    }
    changed = [
        f"{key}: {before.get(key, 'not set')!r} there, {now.get(key, 'not set')!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if changed:
        raise ConfigError(
            "the folder holds a run with another configuration:\n  " + "\n  ".join(changed),
            where=file,
            fix="set run.output to a new folder, or restore the values",
        )


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """{"run": {"steps": 3}} -> {"run.steps": 3}"""
    if not isinstance(values, Mapping) or not values:
        return {prefix: values}
    parts = (flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in values.items())
    return {key: value for part in parts for key, value in part.items()}
