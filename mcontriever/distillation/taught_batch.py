"""A batch of texts with a teacher's vectors, and beside it what a contrastive loss needs.

Shapes: N texts, H the teacher's dimensions, R rows for which a language is counted.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from mcontriever.tokens import PackedBatch


@dataclass(frozen=True, eq=False)
class TaughtBatch:
    """The first `questions` texts ask for the others; 0: every text asks for every text.

    `contrasted` is a contrastive objective's own batch; `contrasts_taught_rows`: its rows are the taught texts.
    """

    taught: PackedBatch
    teacher_NH: torch.Tensor
    language_R: torch.Tensor
    questions: int = 0
    contrasted: Any = None
    contrasts_taught_rows: bool = False

    @property
    def language_B(self) -> torch.Tensor:
        """By the name under which the training loop counts languages."""
        return self.language_R

    def to(self, device: str | torch.device, *, non_blocking: bool = False) -> "TaughtBatch":
        contrasted = self.contrasted
        return replace(
            self,
            taught=self.taught.to(device, non_blocking=non_blocking),
            teacher_NH=self.teacher_NH.to(device, non_blocking=non_blocking),
            language_R=self.language_R.to(device, non_blocking=non_blocking),
            contrasted=None if contrasted is None else contrasted.to(device, non_blocking=non_blocking),
        )

    def stats(self) -> dict[str, float]:
        """As the other batches count themselves; padding is judged on the taught texts."""
        if self.contrasts_taught_rows:
            return dict(self.contrasted.stats())
        tokens, rows = self.taught.token_ids_T.shape[0], len(self.taught)
        own = {
            "tokens": float(tokens),
            "rows": float(rows),
            "truncated": float(self.taught.truncated),
            "padding_saved": 1 - tokens / (rows * self.taught.max_length),
        }
        if self.contrasted is None:
            return own
        theirs = self.contrasted.stats()
        summed = {name: own[name] + theirs[name] for name in ("tokens", "rows", "truncated")}
        return {**theirs, **own, **summed}
