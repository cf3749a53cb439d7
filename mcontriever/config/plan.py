"""`mcontriever run PLAN.yaml`: stages one after another."""

from pathlib import Path
from typing import Any

import pydantic

from mcontriever.config.loading import parse_config
from mcontriever.config.sections import Section
from mcontriever.config.yaml_files import read_yaml
from mcontriever.errors import ConfigError


class AlternateSection(Section):
    """Alternate training and mining (ANCE): `train` as in its own file, with data.refresh_every; `mine` without output.

    Each round mines with the newest checkpoint, from the examples of `train`, into RUN/negatives/step-....
    """

    train: dict[str, Any]
    mine: dict[str, Any]


class StageSection(Section):
    """One of: a verb with its configuration, the two alternately, or any mcontriever command with its arguments."""

    train: dict[str, Any] | None = None
    mine: dict[str, Any] | None = None
    generate: dict[str, Any] | None = None
    alternate: AlternateSection | None = None
    command: list[str] | None = None

    @pydantic.model_validator(mode="after")
    def _is_one(self) -> "StageSection":
        if len(self.model_fields_set) != 1:
            given = ", ".join(sorted(self.model_fields_set)) or "nothing"
            raise ValueError(f"a stage is one of {', '.join(type(self).model_fields)}; found {given}")
        return self


class PlanConfig(Section):
    """Stages one after another. `shared` is a place for YAML anchors; `launcher` starts training on many processes."""

    output: str
    shared: dict[str, Any] = {}
    launcher: list[str] = []  # for example [deepspeed, --num_gpus, "8"]; empty: one process
    stages: list[StageSection] = pydantic.Field(min_length=1)


def load_plan(path: str | Path, overrides: list[str] | None = None) -> PlanConfig:
    values = read_yaml(path)
    if isinstance(values, dict) and "stage" in values and "stages" not in values:
        what = "this is the configuration of one training, not a plan of several stages"
        raise ConfigError(what, where=path, fix=f"mcontriever train --config {path}")
    return parse_config(PlanConfig, values, source=str(path), overrides=overrides)
