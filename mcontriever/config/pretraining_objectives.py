"""The section `objective` of pre-training, and its temperature."""

import typing
from typing import Any

import pydantic

from mcontriever.config.sections import AboveZero, Count, Section, Share


class TemperatureSection(Section):
    """Fixed at `value`, or warmed up to it from `start`, or learned from it. A bare number is a fixed temperature."""

    value: AboveZero
    start: AboveZero | None = None
    warmup_updates: int = pydantic.Field(default=0, ge=0)
    learned: bool = False


def _temperature(given: Any) -> Any:
    return {"value": given} if isinstance(given, int | float) else given


Temperature = typing.Annotated[TemperatureSection, pydantic.BeforeValidator(_temperature)]


class MocoObjective(Section):
    kind: typing.Literal["moco"]
    temperature: Temperature
    queue_size: Count = 32768
    momentum: Share = 0.999
    final_momentum: Share | None = None
    momentum_rise_updates: int = pydantic.Field(default=0, ge=0)
    batch_negatives: bool = False
    own_language_negatives: bool = False
    key_dropout: bool = False


class RelevanceObjective(MocoObjective):
    """ReContriever: several keys per query (data.view.keys_per_query), weighted by their relevance."""

    kind: typing.Literal["relevance"]  # type: ignore[assignment]
    weights: typing.Literal["clamp", "softmax"] = "clamp"


class InBatchObjective(Section):
    kind: typing.Literal["inbatch"]
    temperature: Temperature
    rows_per_sub_batch: Count | None = None  # bounds memory: texts whose activations are kept at a time
