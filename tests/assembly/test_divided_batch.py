"""The batch is the experiment's, whatever the processes and their memory; what is in memory at a time fits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcontriever.assembly.divided_batch import MEMORY_SHARE, divide_batch
from mcontriever.assembly.estimated_work import estimated_work
from mcontriever.assembly.training_config import TrainConfig, parse_train_config
from mcontriever.config import read_yaml
from mcontriever.errors import ConfigError
from mcontriever.training.engine_settings import complete_settings
from mcontriever.training.memory_estimate import KNOWN
from tests.conftest import REPOSITORY

CONFIGS = REPOSITORY / "configs"
MODEL = KNOWN["xlm-roberta-base"]
GB = 10**9


def configured(path: Path, *changes: str) -> TrainConfig:
    return parse_train_config(read_yaml(path), str(path), list(changes))


def moco(*changes: str) -> TrainConfig:
    return configured(CONFIGS / "pretrain" / "mcontriever_ccnet29_xlmr_base.yaml", *changes)


def needed(config: TrainConfig, settings: dict[str, Any]) -> float:
    return sum(estimated_work(config, settings, MODEL).memory_bytes(1).values())


BY_PROCESSES = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
WHOLE = {"train_batch_size", "optimizer"}


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_configuration_states_the_whole_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MSMARCO", "DATA", "CORPUS", "NANO_DATA", "REAL_DATA"):
        monkeypatch.setenv(name, "data")
    values = read_yaml(path)
    blocks = [values] if path.parent.name == "deepspeed" else list(sections("deepspeed", values))
    assert [name for block in blocks for name in BY_PROCESSES if name in block] == []
    for block in blocks:
        for processes in (1, 2) if block.keys() >= WHOLE else ():  # else another section completes it
            settings = complete_settings(block, world_size=processes, total_steps=10)
            assert settings["train_batch_size"] == block["train_batch_size"]
    together = {data["samples_together"] for data in sections("data", values) if data.get("samples_together", 1) > 1}
    assert together <= {block.get("train_batch_size") for block in blocks}


def sections(name: str, values: Any) -> Iterator[dict[str, Any]]:
    """All sections of this name, however deep."""
    if isinstance(values, list):
        values = dict(enumerate(values))
    for key, value in values.items() if isinstance(values, dict) else ():
        if key == name and isinstance(value, dict):
            yield value
        yield from sections(name, value)


@pytest.mark.parametrize("world_size", [1, 2, 4, 64])
@pytest.mark.parametrize("memory", [11 * GB, 24 * GB, 80 * GB])
def test_every_division_is_of_the_same_batch_and_the_largest_that_fits(world_size: int, memory: int) -> None:
    divided, settings = divide_batch(moco(), world_size, memory, MODEL)
    rows, micro_steps = settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]
    assert rows * micro_steps * world_size == settings["train_batch_size"] == 4096
    assert needed(divided, settings) <= MEMORY_SHARE * memory
    larger = {"train_micro_batch_size_per_gpu": rows * 2, "gradient_accumulation_steps": micro_steps // 2}
    assert micro_steps == 1 or needed(divided, {**settings, **larger}) > MEMORY_SHARE * memory


def test_samples_that_meet_in_a_loss_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSMARCO", "msmarco")
    config = configured(CONFIGS / "finetune" / "mcontriever_msmarco.yaml")
    divisions = [divide_batch(config, 8, memory, MODEL) for memory in (600 * GB, 24 * GB, 12 * GB)]
    for _, settings in divisions:
        assert (settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]) == (128, 1)
    whole, half, less = (divided.objective.rows_per_sub_batch for divided, _ in divisions)  # type: ignore[union-attr]
    assert whole is None
    assert half > less >= 1
    assert needed(*divisions[1]) <= MEMORY_SHARE * 24 * GB


def test_what_the_configuration_says_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSMARCO", "msmarco")
    _, settings = divide_batch(moco("deepspeed.train_micro_batch_size_per_gpu=8"), 4, 80 * GB, MODEL)
    assert (settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]) == (8, 128)
    _, settings = divide_batch(moco("deepspeed.gradient_accumulation_steps=4"), 4, 11 * GB, MODEL)
    assert (settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]) == (256, 4)
    config = configured(CONFIGS / "finetune" / "mcontriever_msmarco.yaml", "objective.rows_per_sub_batch=7")
    assert divide_batch(config, 8, 11 * GB, MODEL)[0] == config


def test_a_batch_that_the_processes_do_not_divide_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match="train_batch_size 4096 does not divide by 3 processes"):
        divide_batch(moco(), 3, 80 * GB, MODEL)
