"""The objective `distil`: match a teacher's vectors, alone or added to a contrastive loss.

    objective = Distil(encoder, match=Match(...), teacher_dimension=768, contrast=MoCo(encoder, ...))
    loss, metrics = objective(batch)          # a TaughtBatch

Taught texts and what the contrastive loss needs go through one forward: two would break ZeRO-2 and 3. A student of
other dimensions than the teacher's is compared through a linear projection, which is trained with it and dropped
when the model is exported.
"""

import typing
from typing import Any, ClassVar, Literal

import pydantic
import torch

from mcontriever.config.sections import AboveZero, Count, Section
from mcontriever.distillation.match import Match, Metrics
from mcontriever.distillation.taught_batch import TaughtBatch
from mcontriever.embedding_spread import spread
from mcontriever.encoder.sub_batches import encode_in_sub_batches
from mcontriever.tokens import PackedBatch


class DistilSettings(Section):
    """cosine_weight x (1 - cosine) + scores_weight x KL over the teacher's keys of the batch + the contrastive loss."""

    contrasts_within_batch: ClassVar[bool] = True  # scores are over the keys of a micro step

    kind: Literal["distil"] = "distil"
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

    def objective(self, encoder: Any, contrast: Any, teacher_dimension: int, *, unit: bool, seed: int) -> "Distil":
        """`unit`: the teacher scores by cosine."""
        return Distil(
            encoder,
            match=Match(
                cosine_weight=self.cosine_weight,
                scores_weight=self.scores_weight,
                temperature=self.temperature,
                unit=unit,
            ),
            teacher_dimension=teacher_dimension,
            contrast=contrast,
            contrast_weight=self.contrast_weight,
            rows_per_sub_batch=self.rows_per_sub_batch,
            seed=seed,
        )


class Distil(torch.nn.Module):
    """`contrast` is another objective over the same encoder, with `rows(batch)` and `score(embeddings, batch)`."""

    def __init__(
        self,
        encoder: Any,
        *,
        match: Match,
        teacher_dimension: int,
        contrast: Any = None,
        contrast_weight: float = 1.0,
        rows_per_sub_batch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.match = match
        self.projection = _projection(encoder.dimension, teacher_dimension, seed)
        self.contrast_weight = contrast_weight
        self.rows_per_sub_batch = rows_per_sub_batch
        self._contrast = (contrast,)  # not a submodule: its encoder is ours, and DeepSpeed must meet each weight once
        self.temperature = getattr(contrast, "temperature", None)  # a learned one is a weight

    def forward(self, batch: TaughtBatch) -> tuple[torch.Tensor, Metrics]:
        (contrast,) = self._contrast
        taught, rows = len(batch.taught), batch.taught
        if contrast is not None and not batch.contrasts_taught_rows:
            rows = PackedBatch.join([rows, contrast.rows(batch.contrasted)])
        embeddings = encode_in_sub_batches(self.encoder, rows, self.rows_per_sub_batch)
        student_NH = embeddings[:taught]
        loss, metrics = self.match(self._project(student_NH), batch.teacher_NH, batch.questions)
        metrics |= {**spread(student_NH.detach(), student_NH.detach()), "temperature": self.match.temperature}
        if contrast is None:
            return loss, metrics
        contrasted = embeddings if batch.contrasts_taught_rows else embeddings[taught:]
        contrast_loss, contrast_metrics = contrast.score(contrasted, batch.contrasted)
        blind_loss = metrics["blind_loss"] + self.contrast_weight * contrast_metrics["blind_loss"]
        metrics |= contrast_metrics | {"blind_loss": blind_loss, "contrast_loss": contrast_loss.detach()}
        loss = loss + self.contrast_weight * contrast_loss
        return loss, metrics | {"loss": loss.detach()}

    def after_update(self) -> None:
        (contrast,) = self._contrast
        if contrast is not None:
            contrast.after_update()

    def state(self) -> dict[str, torch.Tensor]:
        (contrast,) = self._contrast
        return {} if contrast is None else dict(contrast.state())

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        (contrast,) = self._contrast
        if contrast is not None:
            contrast.load_state(state)

    def _project(self, student_NH: torch.Tensor) -> torch.Tensor:
        if self.projection is None:
            return student_NH
        with torch.autocast(student_NH.device.type, enabled=False):
            projected: torch.Tensor = self.projection(student_NH.float())
        return projected


def _projection(dimension: int, teacher_dimension: int, seed: int) -> torch.nn.Linear | None:
    """It begins as a rotation into the wider space (or a part of one into the narrower): no text is favoured."""
    if dimension == teacher_dimension:
        return None
    projection = torch.nn.Linear(dimension, teacher_dimension, bias=False)
    torch.nn.init.orthogonal_(projection.weight, generator=torch.Generator().manual_seed(seed))
    return projection
