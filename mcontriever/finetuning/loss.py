"""A loss over labelled queries: its fields are the section `objective` of a configuration, and it is called as it is.

To add one: a subclass with its own `kind`, in a file of its own, and one line in assembly/objectives.py.
"""

import typing
from typing import Any, ClassVar

import torch

from mcontriever.config.sections import Count, Section
from mcontriever.finetuning.candidates import Candidates
from mcontriever.finetuning.triples import TripleBatch

Metrics = dict[str, float | torch.Tensor]


class Loss(Section):
    """`rows_per_sub_batch` limits the texts whose activations are in memory; None keeps all."""

    contrasts_within_batch: ClassVar[bool] = True  # so a batch must not be divided into micro steps

    rows_per_sub_batch: Count | None = None

    @property
    def needs_scores(self) -> bool:
        """Of a teacher, for every query's own passages."""
        return False

    def for_encoder(self, encoder: Any) -> typing.Self:
        """This loss, or a copy that knows what it needs of the encoder; refuses an encoder that does not fit."""
        return self

    def objective(self, encoder: Any) -> torch.nn.Module:
        """What is trained with this loss."""
        from mcontriever.finetuning.triple_objective import TripleObjective

        return TripleObjective(encoder=encoder, loss=self, rows_per_sub_batch=self.rows_per_sub_batch)

    def __call__(self, candidates: Candidates, batch: TripleBatch) -> tuple[torch.Tensor, Metrics]:
        """The loss of a batch. One whose `objective` never asks for it (late interaction) need not define it."""
        raise NotImplementedError
