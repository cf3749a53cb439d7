"""A temperature is fixed, warmed up, or learned."""

from itertools import pairwise

import pytest
import torch

from mcontriever.errors import ConfigError
from mcontriever.pretraining.temperature import Temperature


def test_a_fixed_temperature_has_no_parameters() -> None:
    temperature = Temperature(0.05)
    assert temperature() == pytest.approx(20)
    assert not list(temperature.parameters())


def test_a_warm_up_goes_down_by_equal_factors_and_stays() -> None:
    temperature = Temperature(0.05, start=5.0, warmup_updates=4)
    seen = []
    for _ in range(6):
        seen.append(1 / temperature())
        temperature.updates += 1
    assert seen[0] == pytest.approx(5.0)
    assert [late / early for early, late in pairwise(seen[:5])] == pytest.approx([0.01**0.25] * 4)
    assert seen[4:] == pytest.approx([0.05, 0.05])


def test_a_learned_temperature_is_a_parameter_that_stays_in_bounds() -> None:
    temperature = Temperature(0.05, learned=True)
    scale = temperature()
    assert isinstance(scale, torch.Tensor)
    assert float(scale.detach()) == pytest.approx(20)
    scale.backward()
    assert temperature.log_scale is not None
    assert float(temperature.log_scale.grad) == pytest.approx(20)
    with torch.no_grad():
        temperature.log_scale.fill_(50)
    assert float(temperature().detach()) == pytest.approx(100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"value": 0}, "temperature 0 is not a positive number"),
        ({"value": float("inf")}, "temperature inf is not"),
        ({"value": 0.05, "start": -1, "warmup_updates": 3}, "temperature at the start -1 is not"),
        ({"value": 0.05, "start": 1.0}, r"needs both start \(found 1.0\) and warmup_updates \(found 0\)"),
        ({"value": 0.05, "start": 1.0, "warmup_updates": 3, "learned": True}, "either learned or warmed up"),
        ({"value": 0.001, "learned": True}, "a learned temperature begins between 0.01 and 1, found 0.001"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Temperature(**settings)
