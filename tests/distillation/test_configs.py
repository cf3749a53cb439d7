"""The experiment on a real encoder, and mini: their configurations are read, their scripts name what is there."""

import re
from pathlib import Path

import pytest

from mcontriever.assembly.training_config import load_train_config
from mcontriever.config import MineConfig, load_config
from mcontriever.training.engine_settings import complete_settings
from tests.conftest import REPOSITORY

FOLDERS = [REPOSITORY / "configs" / name for name in ("real", "mini")]


@pytest.mark.parametrize(
    "path",
    sorted(path for folder in FOLDERS for path in folder.glob("*.yaml")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_each_is_read_by_the_model_that_will_read_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAL_DATA", "data")
    if path.stem == "mine":
        assert load_config(MineConfig, path).searchers
        return
    config = load_train_config(path)
    complete_settings(config.deepspeed, world_size=1, total_steps=config.run.steps)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_script_names_files_that_are_there(folder: Path) -> None:
    script = (folder / "run.sh").read_text(encoding="utf-8")
    named = re.findall(r"(?:configs|data_recipes)/[\w/]+\.\w+", script)
    assert named
    assert [name for name in named if not (REPOSITORY / name).is_file()] == []
