"""The temperature of a contrastive loss: fixed, warmed up, or learned.

A warm-up moves geometrically from `start` to `value` over the first updates. XLM-R's raw dot products are large; with
a temperature of 0.05 from the first step, the loss would only see the largest of noisy scores.
"""

import math
from typing import Annotated, Any

import pydantic
import torch

from mcontriever.config.sections import AboveZero, Section
from mcontriever.errors import ConfigError

HIGHEST_LEARNED_SCALE = 100.0


class TemperatureSection(Section):
    """Fixed at `value`, or warmed up to it from `start`, or learned from it. A bare number is a fixed temperature."""

    value: AboveZero
    start: AboveZero | None = None
    warmup_updates: int = pydantic.Field(default=0, ge=0)
    learned: bool = False

    def temperature(self) -> "Temperature":
        return Temperature(**self.model_dump())


def _section(given: Any) -> Any:
    return {"value": given} if isinstance(given, int | float) else given


TemperatureSetting = Annotated[TemperatureSection, pydantic.BeforeValidator(_section)]


class Temperature(torch.nn.Module):
    """Calling it gives the scale, 1 / temperature, with gradient when it is learned."""

    def __init__(
        self, value: float, *, start: float | None = None, warmup_updates: int = 0, learned: bool = False
    ) -> None:
        super().__init__()
        for name, given in (("temperature", value), ("temperature at the start", start)):
            if given is not None and not (given > 0 and math.isfinite(given)):
                raise ConfigError(f"{name} {given} is not a positive number", fix="0.05 is usual")
        if (start is None) != (warmup_updates == 0):
            raise ConfigError(
                f"a temperature warm-up needs both start (found {start}) and warmup_updates (found {warmup_updates})",
                fix="give both or neither",
            )
        if learned and start is not None:
            raise ConfigError("a temperature is either learned or warmed up", fix="choose one")
        if learned and not 1 <= 1 / value <= HIGHEST_LEARNED_SCALE:
            raise ConfigError(
                f"a learned temperature begins between {1 / HIGHEST_LEARNED_SCALE} and 1, found {value}",
                fix="0.05 is usual",
            )
        self.value = value
        self.start = value if start is None else start
        self.warmup_updates = warmup_updates
        self.updates = 0
        self.log_scale = torch.nn.Parameter(torch.tensor([-math.log(value)])) if learned else None

    def forward(self) -> float | torch.Tensor:
        if self.log_scale is not None:
            return self.log_scale.float().clamp(0.0, math.log(HIGHEST_LEARNED_SCALE)).exp()[0]
        done = min(1.0, self.updates / self.warmup_updates) if self.warmup_updates else 1.0
        return torch.tensor(1 / (self.start ** (1 - done) * self.value**done))  # ZeRO-3's hooks accept no plain number
