"""The log of a run: means over the steps since the last line, speed, and the alarm when a run has collapsed."""

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mcontriever.errors import RunError
from mcontriever.training.metrics_log import MetricsLog
from mcontriever.training.run_state import RunState

ROWS = "rows/"  # before the names of languages


class RunReport:
    """Every rank has one, so that all stop at the alarm; only the main rank's has a `log` to write to."""

    def __init__(
        self,
        folder: Path,
        log: MetricsLog | None,
        *,
        history: list[dict[str, Any]],
        advice: Callable[[Sequence[Mapping[str, Any]]], str | None],
        device: torch.device,
    ) -> None:
        """`advice` reads the logged metrics so far and says what is wrong, if anything is."""
        self.folder, self.log, self.history, self.advice, self.device = folder, log, history, advice, device
        self._seconds, self._steps = 0.0, 0

    def start_timer(self) -> None:
        self._started = time.perf_counter()

    def stop_timer(self) -> None:
        """After each step."""
        self._seconds += time.perf_counter() - self._started
        self._steps += 1

    def write(self, state: RunState, steps_left: int, waited_seconds: float) -> None:
        """The alarm comes after the line, so that the log shows what it saw."""
        metrics: dict[str, Any] = state.means.take()
        rows = {name.removeprefix(ROWS): metrics.pop(name) for name in list(metrics) if name.startswith(ROWS)}
        if rows:
            metrics["languages"] = {name: count / sum(rows.values()) for name, count in rows.items()}
        metrics["tokens_per_second"] = metrics["tokens"] / max(self._seconds, 1e-9)
        metrics["data_wait"] = waited_seconds / max(self._seconds, 1e-9)
        metrics["memory_gib"] = peak_memory_gib(self.device)
        metrics["samples"] = state.samples
        if self.log is not None:
            self.log.write(state.step, metrics, self._seconds / max(self._steps, 1) * steps_left)
        self._seconds, self._steps = 0.0, 0
        self.history.append(metrics)
        advice = self.advice(self.history)
        if advice is not None:
            raise RunError(advice, where=self.folder, fix="start a new run with the change, in another run.output")

    def write_scores(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        if self.log is not None:
            self.log.write_scores(step, scores)


def peak_memory_gib(device: torch.device) -> float:
    """The most that this rank has held: of the GPU's memory, or of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
