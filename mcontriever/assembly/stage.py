"""What the trainer asks of a stage: refuse what cannot work, open the data, make objective and batches from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mcontriever.encoder import Encoder


class OpenedStage(Protocol):
    @property
    def languages(self) -> list[str]:
        """The names of the language numbers in a batch; empty if languages are not distinguished."""

    def objective(self, encoder: Encoder) -> torch.nn.Module:
        """forward(batch) -> (loss, metrics); see training/loop.py for what else it has."""

    def batches(self, encoder: Encoder) -> Callable[[np.ndarray], Any]:
        """A function from sample numbers to a batch."""


class Stage(Protocol):
    def check(self) -> None:
        """Before anything is read."""

    def open(self, tokenizer: Any, folder: Path) -> OpenedStage:
        """Collective. `folder` is the run's; what is built once for all ranks is kept there."""
