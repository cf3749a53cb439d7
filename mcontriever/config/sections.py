"""A section: what every part of a configuration is, and the numbers that many of them hold."""

import typing

import pydantic

Share = typing.Annotated[float, pydantic.Field(ge=0, le=1)]
AboveZero = typing.Annotated[float, pydantic.Field(gt=0)]
Count = typing.Annotated[int, pydantic.Field(ge=1)]


class Section(pydantic.BaseModel):
    """A part of a configuration: unknown keys, infinity and NaN are refused, values never change after loading."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
