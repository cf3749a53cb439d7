"""What an installed package brings along: the wheel holds every file that a verb reads."""

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from mcontriever.errors import ConfigError
from mcontriever.shipped import ATLAS, BUNDLED, bundled_folder, shipped

REPOSITORY = Path(__file__).resolve().parents[1]


def test_a_checkout_finds_its_files() -> None:
    assert shipped("data_recipes/atlas.yaml") == REPOSITORY / "data_recipes" / "atlas.yaml"
    assert (ATLAS / "evaluation" / "corpus.jsonl").is_file()
    with pytest.raises(ConfigError, match=r"no data_recipes/none\.yaml comes with this installation"):
        shipped("data_recipes/none.yaml")


def test_the_wheel_holds_what_the_verbs_read(tmp_path: Path) -> None:
    (built,) = WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(built).namelist())
    for folder in ("configs", "data_recipes", "benchmarks/quality/suites"):
        for path in (REPOSITORY / folder).rglob("*.yaml"):
            assert f"mcontriever/shipped_files/{path.relative_to(REPOSITORY)}" in names
    models = [path for name in BUNDLED for path in bundled_folder(name).rglob("*") if path.is_file()]
    for path in [*ATLAS.rglob("*.*"), *models]:
        assert f"mcontriever/{path.relative_to(ATLAS.parent)}" in names
