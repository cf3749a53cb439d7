"""The sections `data` and `objective` of fine-tuning."""

import typing

import pydantic

from mcontriever.config.examples import Examples
from mcontriever.config.sections import AboveZero, Count, Section, Share
from mcontriever.config.teacher import TeacherSection


class TopicsSection(Section):
    """Batches about one topic each (TAS-B): queries clustered by the embeddings of `model`, or of the first encoder."""

    clusters: Count = 2000
    model: str | None = None


class FinetuneData(Section):
    """Queries with positives and negatives (or a recipe's name); lengths are tokens with the special ones."""

    examples: Examples
    teacher: TeacherSection | None = None  # for the objective distil
    negatives: int = pydantic.Field(default=1, ge=0)  # of each query's own; all passages of the batch are others
    hard_ratio: Share = 0.1  # the chance that such a negative is a hard one, not any passage of the data
    query_length: int = pydantic.Field(default=64, ge=8)
    passage_length: int = pydantic.Field(default=256, ge=8)
    topics: TopicsSection | None = None
    margin_bins: Count | None = None  # draw hard negatives evenly over a teacher's margins
    refresh_every: Count | None = None  # steps; then training stops until negatives are mined anew: `mcontriever run`

    def longest_text(self) -> int:
        """In tokens, without the special ones."""
        return max(self.query_length, self.passage_length) - 2


class ContrastiveObjective(Section):
    """`false_negative_margin` leaves out passages that score so much above the positive; `dimensions` is Matryoshka."""

    kind: typing.Literal["contrastive"]
    temperature: AboveZero
    false_negative_margin: float | None = None
    dimensions: list[Count] = []
    rows_per_sub_batch: Count | None = None


class PassageRelationObjective(Section):
    """PAIR: (1 - alpha) times the query's loss, alpha times the passage's."""

    kind: typing.Literal["passage_relation"]
    temperature: AboveZero
    alpha: Share = 0.1
    false_negative_margin: float | None = None
    rows_per_sub_batch: Count | None = None


class DistillationObjective(Section):
    """From a teacher's scores in the examples (`mine` with a cross_encoder writes them)."""

    kind: typing.Literal["distillation"]
    loss: typing.Literal["margin_mse", "kl"] = "margin_mse"
    temperature: AboveZero = 1.0
    teacher_temperature: AboveZero = 1.0
    contrastive_weight: float = pydantic.Field(default=0.0, ge=0)
    rows_per_sub_batch: Count | None = None
