"""What a run reports: a console line, metrics.jsonl always, TensorBoard and Weights & Biases when asked.

metrics.jsonl has one line per logged step, exactly once, also across resumes: what a killed run wrote after its last
checkpoint is removed when the run resumes from there.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from mcontriever.amounts import shown_duration
from mcontriever.errors import RunError, StoreError
from mcontriever.progress import log

METRICS, SCORES = "metrics.jsonl", "scores.jsonl"
CONSOLE = ("loss", "accuracy", "gradient_norm", "learning_rate", "tokens_per_second")


class MetricsLog:
    """Only the main rank holds one. `write` for logged steps, `write_scores` for evaluations."""

    def __init__(
        self, run: Path, *, first_step: int, total_steps: int, tensorboard: bool, wandb_project: str | None
    ) -> None:
        self._run = run
        self._total_steps = total_steps
        for name in (METRICS, SCORES):
            cut_after(run / name, first_step)
        self._tensorboard = _open_tensorboard(run, first_step) if tensorboard else None
        self._wandb = _open_wandb(run, wandb_project) if wandb_project else None

    def write(self, step: int, metrics: Mapping[str, Any], seconds_left: float) -> None:
        _append(self._run / METRICS, {"step": step, **metrics})
        self._draw(step, metrics, "train")
        shown = "  ".join(f"{name} {_short(metrics[name])}" for name in CONSOLE if name in metrics)
        log.info(f"step {step:,} of {self._total_steps:,}  {shown}  {shown_duration(seconds_left)} left")

    def write_scores(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        """`scores` is {set: {metric: value}}."""
        _append(self._run / SCORES, {"step": step, "scores": scores})
        shown = {name: values for name, values in scores.items() if name != "mean" or len(scores) > 2}
        for name, values in shown.items():
            self._draw(step, values, f"dev/{name}")
            log.info(
                f"step {step:,}  {name}: " + "  ".join(f"{metric} {value:.4f}" for metric, value in values.items())
            )

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _draw(self, step: int, values: Mapping[str, Any], section: str) -> None:
        numbers = {f"{section}/{name}": value for name, value in flat_numbers(values)}
        if self._tensorboard is not None:
            for name, value in numbers.items():
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)


def flat_numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, value


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last line that a kill cut is omitted."""
    if not path.exists():
        return []
    try:
        lines = [orjson.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        if all(isinstance(line, dict) and isinstance(line["step"], int) for line in lines):
            return lines
        what = "a line without a step"
    except (OSError, ValueError, KeyError) as error:
        what = str(error)
    raise StoreError(f"the log cannot be read: {what}", where=path, fix="remove the damaged lines, or the file")


def cut_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`; the run resumes from a checkpoint of that step."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    text = b"".join(_line(line) for line in kept)
    if path.exists() and path.read_bytes() != text:
        temporary = path.with_name(f".partial-{path.name}")
        temporary.write_bytes(text)
        os.replace(temporary, path)


def _append(path: Path, values: Mapping[str, Any]) -> None:
    try:
        with open(path, "ab") as file:
            file.write(_line(values))
    except OSError as error:
        raise StoreError(
            f"the log could not be written: {error.strerror}",
            where=path,
            fix="free some space, then run the same command again: it resumes from the last whole checkpoint",
        ) from error


def _line(values: Mapping[str, Any]) -> bytes:
    return orjson.dumps(values) + b"\n"  # values that are not finite become null


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _open_tensorboard(run: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RunError(
            "run.tensorboard is set, but tensorboard is not installed", fix="pip install tensorboard"
        ) from error
    return SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)


def _open_wandb(run: Path, project: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise RunError("run.wandb is set, but wandb is not installed", fix="pip install wandb") from error
    identity = run.resolve().name
    return wandb.init(project=project, name=identity, id=f"{project}-{identity}", resume="allow", dir=str(run))
