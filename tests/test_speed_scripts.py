"""What the scripts of benchmarks/speed make of very small inputs."""

import json
import runpy
import sys

import pytest

from tests.conftest import REPOSITORY


def test_ratios_of_times_and_memory_that_round_to_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = REPOSITORY / "benchmarks" / "speed" / "infonce.py"
    words = ["--queries", "2", "--keys", "8", "--dimension", "4", "--rounds", "1", "--device", "cpu", "--busy"]
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), *words])
    runpy.run_path(str(script), run_name="__main__")
    results = json.loads(capsys.readouterr().out)["results"]
    assert results["plain, float32"]["share of the memory"] == 1
    assert all(one["megabytes"] == 0 and one["times as fast"] > 0 for one in results.values())
