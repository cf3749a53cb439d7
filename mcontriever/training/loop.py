"""The training loop, the same for all stages: update, log, evaluate, save, until done or told to stop.

It knows neither what the objective is nor where batches come from. A batch is anything with `.to(device)` and
`.stats()`; the objective is `forward(batch) -> (loss, metrics)` with `encoder`, `after_update()`, `state()` and
`load_state()`; see pretraining/moco.py for one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mcontriever.training.agreement import mean_over_ranks
from mcontriever.training.batch_prefetch import Prefetch
from mcontriever.training.data_order import DataOrder
from mcontriever.training.learner import Learner, Update
from mcontriever.training.nan_guard import stop_on_nan
from mcontriever.training.run_checkpoints import RunCheckpoints
from mcontriever.training.run_report import ROWS, RunReport
from mcontriever.training.run_state import RunState, is_summed
from mcontriever.training.schedule import Schedule
from mcontriever.training.stop_request import StopRequest

FINISHED, STOPPED, NO_GAIN = "finished", "stopped", "no gain"
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class BatchSource:
    """`make` is a function of sample numbers; `languages` names the language numbers in its batches."""

    order: DataOrder
    make: Callable[[np.ndarray], Any]
    languages: list[str]


@dataclass(frozen=True)
class Evaluation:
    """`score` is collective; `metric` is the SET/METRIC that decides which model is best."""

    score: Callable[[Any], Scores]
    metric: str


class TrainingLoop:
    def __init__(
        self,
        *,
        learner: Learner,
        source: BatchSource,
        state: RunState,
        schedule: Schedule,
        report: RunReport,
        checkpoints: RunCheckpoints,
        evaluation: Evaluation | None,
        stop: StopRequest,
    ) -> None:
        self.learner, self.source, self.state, self.schedule = learner, source, state, schedule
        self.report, self.checkpoints, self.evaluation, self.stop = report, checkpoints, evaluation, stop

    def run(self) -> str:
        """Continue from `state` until the last step, a request to stop, or too long without a better score."""
        state, schedule = self.state, self.schedule
        batches = Prefetch(self.source.order.endlessly(state.samples), self.source.make)
        self.learner.engine.train()
        try:
            if state.step == 0:
                self._evaluate()
            while state.step < schedule.last_step:
                told_to_stop = self.update(batches)
                if schedule.logs(state.step):
                    left = schedule.total_steps - state.step
                    self.report.write(state, left, batches.take_waited_seconds())
                evaluated = self.evaluation is not None and schedule.evaluates(state.step)
                best = evaluated and self._evaluate()
                no_gain = evaluated and schedule.gives_up(state.evaluations_since_best)
                if schedule.saves(state.step) or best or no_gain or told_to_stop:
                    self.checkpoints.save(state, best=best)
                if no_gain or told_to_stop:
                    return NO_GAIN if no_gain else STOPPED
            return FINISHED if schedule.ends(state.step) else STOPPED
        finally:
            batches.close()

    def update(self, batches: Prefetch[np.ndarray, Any]) -> bool:
        """One optimizer step over all ranks and micro steps; True if some rank received a request to stop."""
        self.report.start_timer()
        samples = self.source.order.samples(self.state.samples)
        micro_batches = [next(batches).to(self.learner.device) for _ in samples]
        update = self.learner.update(micro_batches, samples)
        if not math.isfinite(update.gradient_norm):
            self._stop_on_nan(micro_batches, samples, update)
        self.learner.objective.after_update()
        values = mean_over_ranks(*self._measurements(micro_batches, update), self.learner.device)
        told_to_stop = values.pop("stop") > 0
        self.state.advance(
            self.source.order.global_rows,
            {**values, "gradient_norm": update.gradient_norm, "learning_rate": update.learning_rate},
        )
        self.report.stop_timer()
        return told_to_stop

    def _measurements(self, batches: list[Any], update: Update) -> tuple[dict[str, Any], dict[str, float]]:
        """This rank's means over its micro steps, and its sums."""
        rows = [{**metrics, **batch.stats()} for metrics, batch in zip(update.metrics, batches, strict=True)]
        totals = {name: sum(row[name] for row in rows) for name in rows[0]}
        sums = {name: float(total) for name, total in totals.items() if is_summed(name)}
        means = {name: total / len(rows) for name, total in totals.items() if name not in sums}
        return means, {**sums, **self._rows_by_language(batches), "stop": float(self.stop.asked)}

    def _rows_by_language(self, batches: list[Any]) -> dict[str, float]:
        names = self.source.languages
        if not names:
            return {}
        languages = torch.cat([batch.language_B.cpu() for batch in batches])
        counts = torch.bincount(languages, minlength=len(names)).tolist()
        return {ROWS + name: float(count) for name, count in zip(names, counts, strict=True)}

    def _stop_on_nan(self, batches: list[Any], samples: Sequence[np.ndarray], update: Update) -> None:
        tokenizer = self.learner.objective.encoder.tokenizer
        stop_on_nan(self.checkpoints.folder, self.state.step + 1, batches, samples, update.losses, tokenizer)

    def _evaluate(self) -> bool:
        """True if the model is the best so far; the untrained one is not a candidate."""
        if self.evaluation is None:
            return False
        scores = self.evaluation.score(self.checkpoints.whole_encoder.now())
        self.report.write_scores(self.state.step, scores)
        self.learner.engine.train()
        return self.state.take_scores(scores, self.evaluation.metric) if self.state.step else False
