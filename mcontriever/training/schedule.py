"""When a run logs, evaluates, saves and ends."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """`stop_at` ends this start of the run, `total_steps` the run."""

    total_steps: int
    stop_at: int
    log_every: int
    save_every: int
    evaluate_every: int
    patience: int | None

    @property
    def last_step(self) -> int:
        return min(self.total_steps, self.stop_at)

    def logs(self, step: int) -> bool:
        return step % self.log_every == 0 or self.ends(step)

    def saves(self, step: int) -> bool:
        return step % self.save_every == 0 or step == self.last_step

    def evaluates(self, step: int) -> bool:
        return step % self.evaluate_every == 0 or self.ends(step)

    def gives_up(self, evaluations_since_best: int) -> bool:
        return self.patience is not None and evaluations_since_best >= self.patience

    def ends(self, step: int) -> bool:
        return step == self.total_steps
