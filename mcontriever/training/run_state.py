"""The progress of a run: everything small that a checkpoint must restore, as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mcontriever.records import checked_record

SUMMED = frozenset({"tokens", "rows", "truncated", "queries"})


@dataclass
class Means:
    """Means between two log lines. Kept in the checkpoint, so that the first line after a resume is complete."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1

    def take(self) -> dict[str, float]:
        """Means over the steps since the last call; counts (tokens, rows) are sums."""
        values = {name: value if is_summed(name) else value / self.steps for name, value in self.sums.items()}
        self.sums, self.steps = {}, 0
        return values


def is_summed(name: str) -> bool:
    return name in SUMMED or name.startswith("rows/")


@dataclass
class RunState:
    """`step` updates are done, `samples` samples and `tokens` tokens were seen by all ranks together."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    means: Means = field(default_factory=Means)
    best_value: float | None = None
    best_step: int | None = None
    evaluations_since_best: int = 0
    last_scores: dict[str, dict[str, float]] = field(default_factory=dict)

    def advance(self, samples: int, values: Mapping[str, float]) -> None:
        """One more step; `values` are what it measured, over all ranks."""
        self.step += 1
        self.samples += samples
        self.tokens += int(values["tokens"])
        self.means.add(values)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], path: Path = Path("state.json")) -> "RunState":
        """`values` may hold more (see checkpoints.py); only our own keys are taken."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return checked_record(known, cls, path, fix="restore the checkpoint")

    def take_scores(self, scores: Mapping[str, Mapping[str, float]], metric: str) -> bool:
        """Remember an evaluation; True if it is the best so far by "SET/METRIC" (SET may be "mean")."""
        self.last_scores = {name: dict(values) for name, values in scores.items()}
        name, _, measure = metric.rpartition("/")
        value = scores[name][measure]
        if self.best_value is not None and value <= self.best_value:
            self.evaluations_since_best += 1
            return False
        self.best_value, self.best_step, self.evaluations_since_best = value, self.step, 0
        return True
