"""`mcontriever train --config FILE`: one model for each stage, chosen by the key `stage`."""

import typing
from pathlib import Path
from typing import Any

import pydantic

from mcontriever.assembly.objectives import (
    FinetuningContrast,
    FinetuningDistil,
    FinetuningObjective,
    PretrainingContrast,
    PretrainingDistil,
    PretrainingObjective,
)
from mcontriever.config import (
    EncoderSection,
    EvaluationSection,
    FinetuneData,
    PretrainData,
    RunSection,
    Section,
    parse_one_of,
    read_yaml,
)
from mcontriever.errors import ConfigError
from mcontriever.training.engine_settings import well_formed


def _block(given: Any) -> Any:
    return read_yaml(given) if isinstance(given, str) else given


# What DeepSpeed takes, or the name of a YAML file that holds it.
DeepSpeedBlock = typing.Annotated[
    dict[str, Any], pydantic.BeforeValidator(_block), pydantic.AfterValidator(well_formed)
]


class PretrainConfig(Section):
    """`deepspeed` is passed to DeepSpeed unchanged; its documentation lists the keys. It may be the name of a file."""

    stage: typing.Literal["pretrain"]
    encoder: EncoderSection
    data: PretrainData
    objective: PretrainingObjective
    evaluation: EvaluationSection = EvaluationSection()
    run: RunSection
    deepspeed: DeepSpeedBlock

    @property
    def contrast(self) -> PretrainingContrast | None:
        """The settings of the contrastive loss; None for a distillation alone."""
        return self.objective.contrast if isinstance(self.objective, PretrainingDistil) else self.objective


class FinetuneConfig(Section):
    """The same sections, with labelled queries for `data` and a loss over them for `objective`."""

    stage: typing.Literal["finetune"]
    encoder: EncoderSection
    data: FinetuneData
    objective: FinetuningObjective
    evaluation: EvaluationSection = EvaluationSection()
    run: RunSection
    deepspeed: DeepSpeedBlock

    @property
    def contrast(self) -> FinetuningContrast | None:
        return self.objective.contrast if isinstance(self.objective, FinetuningDistil) else self.objective


TrainConfig = typing.Annotated[PretrainConfig | FinetuneConfig, pydantic.Field(discriminator="stage")]
STAGES = (PretrainConfig, FinetuneConfig)


def load_train_config(
    path: str | Path, overrides: list[str] | None = None, *, deepspeed: str | Path | None = None
) -> TrainConfig:
    """`deepspeed` is a file, YAML or JSON, that replaces the section of that name."""
    values = read_yaml(path)
    if isinstance(values, dict) and "stages" in values and "stage" not in values:
        raise ConfigError(
            "this is a plan of several stages, not the configuration of one training",
            where=path,
            fix=f"mcontriever run {path}",
        )
    if deepspeed is not None and isinstance(values, dict):
        block = read_yaml(deepspeed)
        if not isinstance(block, dict):
            what = f"expected DeepSpeed's keys and values, found {type(block).__name__}"
            raise ConfigError(what, where=deepspeed, fix="see configs/deepspeed for examples")
        values["deepspeed"] = block
    return parse_train_config(values, source=str(path), overrides=overrides)


def parse_train_config(values: Any, source: str, overrides: list[str] | None = None) -> TrainConfig:
    adapter: pydantic.TypeAdapter[TrainConfig] = pydantic.TypeAdapter(TrainConfig)
    return parse_one_of(adapter, STAGES, values, source, overrides)
