"""The training loop, the same for all stages: update, log, evaluate, save, until done or told to stop.

It knows neither what the objective is nor where batches come from. A batch is anything with `.to(device)` and
`.stats()`; the objective is `forward(batch) -> (loss, metrics)` with `encoder`, `after_update()`, `state()` and
`load_state()`; see pretraining/moco.py for one.
"""

import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever import chance, ranks
from mcontriever.errors import RunError
from mcontriever.training.agreement import mean_over_ranks
from mcontriever.training.asam import Asam
from mcontriever.training.batch_prefetch import Prefetch
from mcontriever.training.checkpoints import checkpoint_name, prune, write_checkpoint
from mcontriever.training.data_order import DataOrder
from mcontriever.training.engine import WholeEncoder, take_step
from mcontriever.training.exported_model import copy_model
from mcontriever.training.metrics_log import MetricsLog
from mcontriever.training.nan_guard import stop_on_nan
from mcontriever.training.run_state import RunState, is_summed
from mcontriever.training.stop_request import StopRequest

Scores = dict[str, dict[str, float]]
FINISHED, STOPPED, NO_GAIN = "finished", "stopped", "no gain"


class TrainingLoop:
    def __init__(
        self,
        *,
        run: Path,
        engine: Any,
        whole_encoder: WholeEncoder,
        make_batch: Callable[[np.ndarray], Any],
        order: DataOrder,
        state: RunState,
        device: torch.device,
        stop: StopRequest,
        log: MetricsLog | None,
        advice: Callable[[Sequence[Mapping[str, Any]]], str | None],
        history: list[dict[str, Any]],
        languages: list[str],
        score: Callable[[Any], Scores] | None,
        describe: Callable[[RunState], tuple[str, dict[str, bytes]]],
        facts: Mapping[str, Any],
        asam: Asam | None,
        total_steps: int,
        stop_at: int,
        seed: int,
        log_every: int,
        save_every: int,
        keep_last: int,
        evaluate_every: int,
        metric: str,
        patience: int | None,
    ) -> None:
        self.run_folder, self.engine, self.whole_encoder = run, engine, whole_encoder
        self.objective = engine.module
        self.make_batch, self.order, self.state = make_batch, order, state
        self.device, self.stop, self.log, self.advice, self.history = device, stop, log, advice, history
        self.languages, self.score, self.describe, self.facts = languages, score, describe, facts
        self.asam, self.total_steps, self.stop_at, self.seed = asam, total_steps, stop_at, seed
        self.log_every, self.save_every, self.keep_last = log_every, save_every, keep_last
        self.evaluate_every, self.metric, self.patience = evaluate_every, metric, patience
        self._seconds, self._timed_steps = 0.0, 0

    def run(self) -> str:
        """Go on from `state` until the last step, a wish to stop, or too long without a better score."""
        state = self.state
        self._batches = batches = Prefetch(self.order.endlessly(state.samples), self.make_batch)
        self.engine.train()
        try:
            if self.score is not None and state.step == 0:
                self._evaluate()
            while state.step < min(self.total_steps, self.stop_at):
                stopping = self._update(batches)
                last = state.step == self.total_steps
                stopping = stopping or (state.step == self.stop_at and not last)
                if state.step % self.log_every == 0 or last:
                    self._log()
                best = lost = False
                if self.score is not None and (state.step % self.evaluate_every == 0 or last):
                    best = self._evaluate()
                    lost = self.patience is not None and state.evaluations_since_best >= self.patience
                if state.step % self.save_every == 0 or last or best or lost or stopping:
                    self._save(best)
                if lost or stopping:
                    return NO_GAIN if lost else STOPPED
            return FINISHED if state.step == self.total_steps else STOPPED
        finally:
            batches.close()

    def _update(self, batches: Iterator[Any]) -> bool:
        """One optimizer step over all ranks and micro steps; True if some rank was told to stop."""
        started = time.perf_counter()
        rate = self.engine.get_lr()[0]
        seen, losses, measured = [], [], []
        micro_batches = [next(batches).to(self.device) for _ in range(self.order.micro_steps)]
        if self.asam is not None:
            self.asam.ascend([partial(self._loss, batch, number) for number, batch in enumerate(micro_batches)])
        for micro_step, batch in enumerate(micro_batches):
            self._seed_dropout(micro_step)
            loss, metrics = self.engine(batch)
            self.engine.backward(loss)
            seen.append(batch)
            losses.append(loss.detach())
            measured.append({"loss": loss.detach(), **metrics})
            if micro_step + 1 < self.order.micro_steps:
                self.engine.step()
        if self.asam is not None:
            self.asam.descend()
        norm = take_step(self.engine)
        if not math.isfinite(norm):
            self._stop_on_nan(seen, losses)
        self.objective.after_update()
        values = mean_over_ranks(*self._measurements(seen, measured), self.device)
        stopping = values.pop("stop") > 0
        self._advance({**values, "gradient_norm": norm, "learning_rate": rate})
        self._seconds += time.perf_counter() - started
        self._timed_steps += 1
        return stopping

    def _loss(self, batch: Any, micro_step: int) -> torch.Tensor:
        """As the engine computes it, without its hooks, and with the dropout that the batch meets in its own turn."""
        self._seed_dropout(micro_step)
        autocast = self.engine.torch_autocast_enabled()
        dtype = self.engine.torch_autocast_dtype() if autocast else None
        with torch.autocast(self.device.type, dtype=dtype, enabled=autocast):
            return self.objective(batch)[0]

    def _seed_dropout(self, micro_step: int) -> None:
        """Dropout is a function of which samples these are, so that nothing of torch's generator has to be stored."""
        first_sample = int(self.order.samples(self.state.samples, micro_step)[0])
        bits = chance.random_bits(self.seed, "dropout", first_sample)
        torch.manual_seed(int(bits) >> 1)

    def _measurements(
        self, batches: list[Any], measured: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """This rank's means over its micro steps, and its sums."""
        rows = [{**metrics, **batch.stats()} for metrics, batch in zip(measured, batches, strict=True)]
        totals = {name: sum(row[name] for row in rows) for name in rows[0]}
        sums = {name: float(total) for name, total in totals.items() if is_summed(name)}
        means = {name: total / len(rows) for name, total in totals.items() if name not in sums}
        return means, {**sums, **self._rows_by_language(batches), "stop": float(self.stop.asked)}

    def _rows_by_language(self, batches: list[Any]) -> dict[str, float]:
        if not self.languages:
            return {}
        languages = torch.cat([batch.language_B.cpu() for batch in batches])
        counts = torch.bincount(languages, minlength=len(self.languages))
        return {f"rows/{name}": float(count) for name, count in zip(self.languages, counts.tolist(), strict=True)}

    def _advance(self, values: dict[str, float]) -> None:
        self.state.step += 1
        self.state.samples += self.order.global_rows
        self.state.tokens += int(values["tokens"])
        self.state.means.add(values)

    def _stop_on_nan(self, batches: list[Any], losses: list[torch.Tensor]) -> None:
        samples = [self.order.samples(self.state.samples, number) for number in range(self.order.micro_steps)]
        values = [float(loss) for loss in losses]
        stop_on_nan(self.run_folder, self.state.step + 1, batches, samples, values, self.objective.encoder.tokenizer)

    def _log(self) -> None:
        """The collapse alarm comes after the line, so that the log shows what it saw."""
        metrics: dict[str, Any] = self.state.means.take()
        rows = {name[len("rows/") :]: metrics.pop(name) for name in list(metrics) if name.startswith("rows/")}
        if rows:
            metrics["languages"] = {name: count / sum(rows.values()) for name, count in rows.items()}
        metrics["tokens_per_second"] = metrics["tokens"] / max(self._seconds, 1e-9)
        metrics["data_wait"] = self._batches.take_waited_seconds() / max(self._seconds, 1e-9)
        metrics["memory_gib"] = peak_memory_gib(self.device)
        metrics["samples"] = self.state.samples
        if self.log is not None:
            seconds_per_step = self._seconds / max(self._timed_steps, 1)
            self.log.write(self.state.step, metrics, seconds_per_step * (self.total_steps - self.state.step))
        self._seconds, self._timed_steps = 0.0, 0
        self.history.append(metrics)
        advice = self.advice(self.history)
        if advice is not None:
            raise RunError(advice, where=self.run_folder, fix="begin a new run with the change, in another run.output")

    def _evaluate(self) -> bool:
        assert self.score is not None
        scores = self.score(self.whole_encoder.now())
        if self.log is not None:
            self.log.write_scores(self.state.step, scores)
        self.engine.train()
        return self.state.take_scores(scores, self.metric) if self.state.step else False

    def _save(self, best: bool) -> None:
        card, attachments = self.describe(self.state)
        checkpoint = write_checkpoint(
            self.run_folder,
            {**self.state.to_json(), **self.facts},
            self.engine,
            self.whole_encoder,
            card=card,
            attachments=attachments,
        )
        if ranks.is_main():
            if best:
                copy_model(checkpoint, self.run_folder / "best")
            keep_also = None if self.state.best_step is None else checkpoint_name(self.state.best_step)
            prune(self.run_folder, self.keep_last, keep_also)


def peak_memory_gib(device: torch.device) -> float:
    """The most this rank has held: of the GPU's memory, or of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
