"""`mcontriever train --config FILE`: one model for each stage."""

import typing
from pathlib import Path
from typing import Any

import pydantic

from mcontriever.config.distillation import FinetuneDistilObjective, PretrainDistilObjective
from mcontriever.config.encoder import EncoderSection
from mcontriever.config.finetuning import (
    ContrastiveObjective,
    DistillationObjective,
    FinetuneData,
    PassageRelationObjective,
)
from mcontriever.config.loading import parse_config
from mcontriever.config.pretraining_data import PretrainData
from mcontriever.config.pretraining_objectives import InBatchObjective, MocoObjective, RelevanceObjective
from mcontriever.config.sections import Section
from mcontriever.config.training_run import EvaluationSection, RunSection
from mcontriever.config.yaml_files import read_yaml
from mcontriever.errors import ConfigError


class TrainConfig(Section):
    """`deepspeed` goes to DeepSpeed as it stands; see its documentation for what it may hold. It may name a file."""

    stage: typing.Literal["pretrain"]
    encoder: EncoderSection
    data: PretrainData
    objective: MocoObjective | RelevanceObjective | InBatchObjective | PretrainDistilObjective = pydantic.Field(
        discriminator="kind"
    )
    evaluation: EvaluationSection = EvaluationSection()
    run: RunSection
    deepspeed: dict[str, Any]

    @pydantic.field_validator("deepspeed", mode="before")
    @classmethod
    def _read_block(cls, given: Any) -> Any:
        return read_yaml(given) if isinstance(given, str) else given


class FinetuneConfig(TrainConfig):
    stage: typing.Literal["finetune"]  # type: ignore[assignment]
    data: FinetuneData  # type: ignore[assignment]
    objective: ContrastiveObjective | PassageRelationObjective | DistillationObjective | FinetuneDistilObjective = (
        pydantic.Field(discriminator="kind")  # type: ignore[assignment]
    )


def load_train_config(path: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """A configuration of the stage that it names."""
    values = read_yaml(path)
    return parse_config(train_config_of(values, str(path)), values, source=str(path), overrides=overrides)


def train_config_of(values: Any, source: str) -> type[TrainConfig]:
    stages: dict[str, type[TrainConfig]] = {"pretrain": TrainConfig, "finetune": FinetuneConfig}
    stage = values.get("stage") if isinstance(values, dict) else None
    if isinstance(values, dict) and stage not in stages:
        raise ConfigError(f"stage is {stage!r}", where=source, fix=f"choose {' or '.join(stages)}")
    return stages.get(str(stage), TrainConfig)
