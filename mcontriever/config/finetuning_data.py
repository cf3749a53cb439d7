"""The section `data` of fine-tuning."""

import typing

import pydantic

from mcontriever.config.examples import Examples
from mcontriever.config.sections import Count, Section, Share
from mcontriever.config.teacher import TeacherSection


class TopicsSection(Section):
    """Batches about one topic each (TAS-B): queries clustered by the embeddings of `model`, or of the first encoder."""

    clusters: Count = 2000
    model: str | None = None


class FinetuneData(Section):
    """Queries with positives and negatives (or a recipe's name); lengths are tokens with the special ones."""

    examples: Examples
    max_examples: Count | None = None  # few-shot: so many of them, drawn by run.seed
    teacher: TeacherSection | None = None  # for the objective distil
    negatives: int = pydantic.Field(default=1, ge=0)  # of each query's own; all passages of the batch are others
    hard_ratio: Share = 0.1  # the chance that such a negative is a hard one, not any passage of the data
    query_length: int = pydantic.Field(default=64, ge=8)
    passage_length: int = pydantic.Field(default=256, ge=8)
    topics: TopicsSection | None = None
    margin_bins: Count | None = None  # draw hard negatives evenly over a teacher's margins
    refresh_every: Count | None = (
        None  # steps; then training stops there until `mcontriever run` has mined new negatives
    )

    @pydantic.model_validator(mode="after")
    def _examples_have_positives(self) -> typing.Self:
        if self.examples.unlabelled:
            raise ValueError("unlabelled queries have no positive: let `mine` find some with a cross-encoder first")
        return self

    @pydantic.model_validator(mode="after")
    def _topics_have_all_examples(self) -> typing.Self:
        if self.topics is not None and self.max_examples is not None:
            raise ValueError("topics cluster all examples: omit topics, or max_examples")
        return self

    def longest_text(self) -> int:
        """In tokens, without the special ones."""
        return max(self.query_length, self.passage_length) - 2
