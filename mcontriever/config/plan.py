"""`mcontriever run PLAN.yaml`: stages one after another."""

from typing import Any

import pydantic

from mcontriever.config.sections import Section


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
