"""Learning from a teacher's vectors: the objective `distil` of both stages."""

import typing

import pydantic

from mcontriever.config.finetuning import ContrastiveObjective, DistillationObjective, PassageRelationObjective
from mcontriever.config.pretraining_objectives import InBatchObjective, MocoObjective, RelevanceObjective
from mcontriever.config.sections import AboveZero, Count, Section


class _Distil(Section):
    """cosine_weight x (1 - cosine) + scores_weight x KL over the teacher's keys of the batch + the contrastive loss."""

    kind: typing.Literal["distil"]
    cosine_weight: float = pydantic.Field(default=10.0, ge=0)
    scores_weight: float = pydantic.Field(default=1.0, ge=0)
    temperature: AboveZero = 0.03  # of the scores, the student's and the teacher's
    contrast_weight: AboveZero = 1.0
    rows_per_sub_batch: Count | None = None

    @pydantic.model_validator(mode="after")
    def _matches_something(self) -> typing.Self:
        if self.cosine_weight == self.scores_weight == 0:
            raise ValueError("cosine_weight and scores_weight are both 0: nothing is learned from the teacher")
        return self


class PretrainDistilObjective(_Distil):
    """`contrast` works on crops: of data.tokens if they are given, else of the teacher's texts."""

    contrast: (
        typing.Annotated[MocoObjective | RelevanceObjective | InBatchObjective, pydantic.Field(discriminator="kind")]
        | None
    ) = None

    @property
    def queue_size(self) -> int:
        """Only an objective with a queue has this."""
        if not isinstance(self.contrast, MocoObjective):
            raise AttributeError("queue_size")
        return self.contrast.queue_size


class FinetuneDistilObjective(_Distil):
    """`contrast` works on the same queries and passages."""

    contrast: (
        typing.Annotated[
            ContrastiveObjective | PassageRelationObjective | DistillationObjective,
            pydantic.Field(discriminator="kind"),
        ]
        | None
    ) = None
