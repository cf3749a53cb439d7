"""`mcontriever mine --config FILE`."""

import typing

import pydantic

from mcontriever.config.examples import Examples
from mcontriever.config.sections import AboveZero, Count, Section, Share


class SearcherSection(Section):
    """One search and what is taken from it. Ranks count from 1; the margins are in the search's own scores."""

    kind: typing.Literal["dense", "bm25"]
    negatives: Count = 30  # for each query, at most
    first_rank: Count = 1
    last_rank: Count = 200
    margin: float | None = None  # a negative scores at most the positive's score less this
    relative_margin: float | None = pydantic.Field(default=None, gt=0)  # ... and at most this share of it
    choose: typing.Literal["random", "top"] = "random"

    @pydantic.model_validator(mode="after")
    def _window_is_open(self) -> "SearcherSection":
        if self.first_rank > self.last_rank:
            raise ValueError(f"first_rank {self.first_rank} is after last_rank {self.last_rank}: nothing is left")
        return self


class CrossEncoderSection(Section):
    """A second opinion: candidates that answer with more than `max_probability` are unlabelled positives, and dropped.

    Its logits are stored with every passage, for distillation. `examined` candidates are read for each negative wanted.
    Of queries without a label, those that answer with `min_positive_probability` become the positives.
    """

    name: str
    min_positive_probability: Share | None = None  # with examples.unlabelled; RocketQA took 0.9
    max_probability: Share | None = None  # the sigmoid of its logit; RocketQA took 0.1
    examined: AboveZero = 2.0


class MineConfig(Section):
    """Hard negatives for `examples` out of `corpus`: a store, what `embed` reads, or None: the examples' passages.

    `merge` is how dense searchers compare passages of different languages: `raw` by the encoder's own scores,
    `calibrated` as `search` does, with scores and margins in deviations of unrelated passages' scores. None is
    `calibrated` where the corpus is in several languages and no dense searcher has a `margin`.
    """

    examples: Examples
    corpus: str | None = None
    corpus_fields: dict[str, str] = {}
    model: str | None = None  # for dense searchers
    searchers: list[SearcherSection] = pydantic.Field(min_length=1)
    merge: typing.Literal["calibrated", "raw"] | None = None
    cross_encoder: CrossEncoderSection | None = None
    output: str
    texts: bool = True  # False writes ids only, to be read again with `collection`
    seed: int = 0
    queries_per_block: Count = 4096
    memory_mb: int = pydantic.Field(default=500, ge=64)
    keep_store: bool = True  # the embeddings, where they were made here
    device: str = "auto"
    processes: Count = 1  # for embedding

    @pydantic.model_validator(mode="after")
    def _models_are_named(self) -> "MineConfig":
        certain = self.cross_encoder is not None and self.cross_encoder.min_positive_probability is not None
        if self.examples.unlabelled != certain:
            raise ValueError("examples.unlabelled and cross_encoder.min_positive_probability go together")
        if any(searcher.kind == "dense" for searcher in self.searchers) and self.model is None:
            raise ValueError("a dense searcher needs model: the folder or hub name of an encoder")
        has_ids = self.corpus or self.examples.collection or self.examples.format in ("msmarco", "beir")
        if not self.texts and not has_ids:
            raise ValueError("texts: false leaves ids alone, but the examples have no collection to find them in again")
        return self
