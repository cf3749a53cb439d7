"""Every configuration and recipe of this part of the project is read by the model that will read it."""

from pathlib import Path

import pytest

from mcontriever.assembly.training_config import FinetuneConfig, load_train_config
from mcontriever.config import (
    GenerateConfig,
    MineConfig,
    PlanConfig,
    load_config,
    load_examples_recipe,
    read_yaml,
)
from mcontriever.run import check_stage
from mcontriever.training.engine_settings import complete_settings
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSMARCO", "msmarco")
    monkeypatch.setenv("DATA", "data")
    monkeypatch.setenv("CORPUS", "corpus.jsonl")


def files(folder: str) -> list[Path]:
    return sorted((REPOSITORY / "configs" / folder).glob("*.yaml"))


@pytest.mark.parametrize("path", [*files("finetune"), *files("ablations")], ids=lambda path: path.stem)
def test_trainings_and_plans(path: Path) -> None:
    if "stages" in read_yaml(path):
        plan = load_config(PlanConfig, path)
        for number, stage in enumerate(plan.stages):
            check_stage(stage, f"stages.{number}")
        return
    config = load_train_config(path)
    assert isinstance(config, FinetuneConfig) or path.parent.name == "ablations"
    complete_settings(config.deepspeed, world_size=1, total_steps=config.run.steps)


def test_each_ablation_differs_from_its_preset_and_from_the_others() -> None:
    seen = {}
    for path in files("ablations"):
        values = read_yaml(path)
        pretraining = values["stages"][0]["train"] if "stages" in values else values
        seen[path.stem] = {name: section for name, section in pretraining.items() if name != "run"}
    first = read_yaml(REPOSITORY / "configs" / "pretrain" / "contriever_first_version.yaml")
    assert seen["crops_delete"] == {name: section for name, section in first.items() if name != "run"}
    different = [values for name, values in seen.items()]
    assert all(different.count(values) == 1 for values in different)
    assert seen["queue_2048"]["objective"] == {**first["objective"], "queue_size": 2048}


@pytest.mark.parametrize("path", files("mine"), ids=lambda path: path.stem)
def test_mining(path: Path) -> None:
    config = load_config(MineConfig, path)
    assert config.examples.collection == "msmarco/collection.tsv" or config.examples.format == "beir"


@pytest.mark.parametrize("path", files("generate"), ids=lambda path: path.stem)
def test_generating(path: Path) -> None:
    assert load_config(GenerateConfig, path).per_passage > 0


def test_the_msmarco_recipe() -> None:
    recipe = load_examples_recipe("msmarco")
    assert recipe.expected["passages"] == 8_841_823
    assert recipe.examples.format == "msmarco"
