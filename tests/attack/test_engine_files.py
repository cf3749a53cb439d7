"""A training run's checkpoint, damaged in every file: the next start tells it, and runs no code out of a file."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mcontriever.encoder.model_checksums import write_checksums
from mcontriever.training.safe_files import SafeFiles
from tests.attack.attempt import attempt, content
from tests.attack.damage import ANY_FILE, ODD_VALUES, places_in, with_value
from tests.training.tiny_runs import tiny_values, write_config

# Any other content fails at the same comparison with checksums.json, before the file is read: three of its kinds.
ENGINE_DAMAGES = ("missing", "a folder", "cut", "middle byte", "pickled")
TENSOR_DAMAGES = ("missing", "cut", "middle byte", "pickled")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, whole: Path) -> Path:
    """A run of two steps with its checkpoint, and train.yaml of two steps more."""
    folder = tmp_path_factory.mktemp("trained")
    values = tiny_values(folder / "run", whole / "tokens", whole / "tokenizer")
    values["run"]["steps"] = 2
    made = attempt("train", "--config", write_config(folder / "train.yaml", values))
    assert made.code == 0, made.explained()
    return folder


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "run", tmp_path / "run")) / "checkpoints" / "step-00000002"


def resume(trained: Path, checkpoint: Path) -> Any:
    run = checkpoint.parents[1]
    changes = ("--set", f"run.output={run}", "--set", "run.steps=3")
    return attempt("train", "--config", trained / "train.yaml", *changes)


def require_told(trained: Path, checkpoint: Path) -> None:
    before = content(checkpoint)
    outcome = resume(trained, checkpoint)
    outcome.require_told()
    assert content(checkpoint) == before
    assert [path.name for path in checkpoint.parent.glob("step-*")] == [checkpoint.name]
    assert not list(checkpoint.parents[2].rglob("RAN")), "a file ran code"


def test_a_whole_checkpoint_is_resumed(trained: Path, checkpoint: Path) -> None:
    (checkpoint.parent / "latest").write_text("../../../etc")  # written for people, never read
    outcome = resume(trained, checkpoint)
    assert outcome.code == 0, outcome.explained()
    assert (checkpoint.parent / "step-00000003").is_dir()


@pytest.mark.parametrize("damage", ENGINE_DAMAGES)
@pytest.mark.parametrize("kind", ["*optim_states.pt", "*model_states.pt"])
def test_damaged_files_of_the_engine(trained: Path, checkpoint: Path, kind: str, damage: str) -> None:
    (file,) = (checkpoint / "engine").glob(kind)
    ANY_FILE[damage](file)
    require_told(trained, checkpoint)


@pytest.mark.parametrize("damage", TENSOR_DAMAGES)
@pytest.mark.parametrize("file", ["optimizer.safetensors", "objective.safetensors", "model/model.safetensors"])
def test_damaged_tensors(trained: Path, checkpoint: Path, file: str, damage: str) -> None:
    ANY_FILE[damage](checkpoint / file)
    require_told(trained, checkpoint)


def _shorter(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value[:1].clone() if value.dim() and len(value) > 1 else value
    if isinstance(value, dict):
        return {key: _shorter(inner) for key, inner in value.items()}
    return [_shorter(inner) for inner in value] if isinstance(value, list) else value


REPLACED: dict[str, Callable[[Any], Any]] = {
    "tensors of other shapes": _shorter,
    "an empty dictionary": lambda state: {},
    "a list": lambda state: [1, 2],
    "a tensor": lambda state: torch.zeros(3),
}


@pytest.mark.parametrize("how", REPLACED)
@pytest.mark.parametrize("kind", ["*optim_states.pt", "*model_states.pt"])
def test_an_engine_state_that_is_another(trained: Path, checkpoint: Path, kind: str, how: str) -> None:
    (file,) = (checkpoint / "engine").glob(kind)
    torch.save(REPLACED[how](SafeFiles().load(str(file))), file)
    write_checksums(checkpoint)
    require_told(trained, checkpoint)


def test_every_value_of_the_state(trained: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Told, or without effect on anything but this run. A third of the places: each start takes a while."""
    state = checkpoint / "state.json"
    whole = state.read_text()
    names = [*ODD_VALUES, "absent"]
    for number, place in enumerate(places_in(json.loads(whole))[::3]):
        name = names[number % len(names)]
        with_value(state, place, ODD_VALUES[name] if name != "absent" else ...)
        outcome = resume(trained, checkpoint)
        outcome.require_clean()
        assert outcome.code == 0 or outcome.told(), f"{place} is {name}\n{outcome.explained()}"
        state.write_text(whole)
        for path in checkpoint.parent.glob("step-00000003"):
            shutil.rmtree(path)
        for name in ("finished.json", "model"):
            path = checkpoint.parents[1] / name
            if path.is_dir():
                shutil.rmtree(path)
            elif os.path.lexists(path):
                path.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
