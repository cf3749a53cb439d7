"""Sizes and durations as a reader would write them."""

import pytest

from mcontriever.amounts import shown_duration, shown_size


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 KB"), (64.5e9, "64.5 GB"), (2.5e15, "2500.0 TB")],
)
def test_sizes(count: float, shown: str) -> None:
    assert shown_size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (72 * 3600, "3.0 days")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert shown_duration(seconds) == shown
