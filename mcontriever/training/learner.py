"""One update: forward and backward of every micro step, ASAM if wanted, and a step that NaN cannot spoil."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from mcontriever import chance
from mcontriever.training.asam import Asam
from mcontriever.training.engine import take_step


@dataclass(frozen=True)
class Update:
    """What this rank's micro steps measured. If `gradient_norm` is not finite, the update was not applied."""

    metrics: list[dict[str, Any]]
    gradient_norm: float
    learning_rate: float

    @property
    def losses(self) -> list[float]:
        return [float(measured["loss"]) for measured in self.metrics]


class Learner:
    """Holds the engine, and nothing that a checkpoint would have to store."""

    def __init__(self, engine: Any, device: torch.device, *, seed: int, asam: Asam | None = None) -> None:
        self.engine, self.device, self.seed, self.asam = engine, device, seed, asam
        self.objective = engine.module

    def update(self, batches: Sequence[Any], samples: Sequence[np.ndarray]) -> Update:
        """`batches` are on the device; `samples` are their sample numbers."""
        rate = self.engine.get_lr()[0]
        if self.asam is not None:
            self.asam.ascend([partial(self._loss, *micro_step) for micro_step in zip(batches, samples, strict=True)])
        metrics = []
        for number, (batch, numbers) in enumerate(zip(batches, samples, strict=True), start=1):
            self._seed_dropout(numbers)
            loss, measured = self.engine(batch)
            self.engine.backward(loss)
            metrics.append({"loss": loss.detach(), **measured})
            if number < len(batches):
                self.engine.step()
        if self.asam is not None:
            self.asam.descend()
        return Update(metrics, take_step(self.engine), rate)

    def _loss(self, batch: Any, samples: np.ndarray) -> torch.Tensor:
        """As the engine computes it, without its hooks, with the dropout that the batch gets in its own turn."""
        self._seed_dropout(samples)
        autocast = self.engine.torch_autocast_enabled()
        dtype = self.engine.torch_autocast_dtype() if autocast else None
        with torch.autocast(self.device.type, dtype=dtype, enabled=autocast):
            return self.objective(batch)[0]

    def _seed_dropout(self, samples: np.ndarray) -> None:
        """Dropout is a function of which samples these are, so nothing of torch's generator has to be stored."""
        bits = chance.random_bits(self.seed, "dropout", int(samples[0]))
        torch.manual_seed(int(bits) >> 1)
