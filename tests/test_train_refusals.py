"""Training that must not continue, in one process: mistakes, other folders, damage, NaN, collapse, a full disk."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from mcontriever.errors import ConfigError, DataError, ModelError, RunError, StoreError, UserError
from mcontriever.training.checkpoints import checkpoints_of
from tests.conftest import REPOSITORY, RunCli
from tests.training.tiny_runs import logged, run_tiny, tiny_values, write_config

# DeepSpeed's own calls into torch
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.distributed.*` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning"),
]

ATLAS = str(REPOSITORY / "mcontriever" / "atlas" / "evaluation")


@pytest.fixture
def values(tmp_path: Path, tiny_tokens_dir: Path, tiny_tokenizer_dir: Path) -> dict[str, Any]:
    return tiny_values(tmp_path / "run", tiny_tokens_dir, tiny_tokenizer_dir)


def test_nan_stops_before_the_update_and_leaves_what_to_look_at(values: dict[str, Any], tmp_path: Path) -> None:
    straight = run_tiny(values, "run.steps=2", "run.save_every=1")
    poisoned = tmp_path / "poisoned"
    shutil.copytree(straight / "model", poisoned, ignore=shutil.ignore_patterns("checksums.json"))
    weights = load_file(poisoned / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][0] = math.nan
    save_file(weights, poisoned / "model.safetensors", metadata={"format": "pt"})
    values["encoder"] = {"name": str(poisoned)}
    for stage in (0, 1):
        output = tmp_path / f"nan-{stage}"
        with pytest.raises(
            RunError, match="loss of rank 0 is not finite at step 1; the update was not applied"
        ) as caught:
            run_tiny(values, f"run.output={output}", f"deepspeed.zero_optimization.stage={stage}")
        report = json.loads(Path(caught.value.where or "").read_text())
        assert report["ranks"][0]["samples"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert len(report["ranks"][0]["texts"][0]["queries"]) == 4
        assert report["ranks"][0]["losses"] == ["nan", "nan"]
        assert not checkpoints_of(output)


def test_a_collapsing_run_raises_the_alarm(values: dict[str, Any]) -> None:
    values["objective"]["temperature"] = 1e-4
    values["deepspeed"]["optimizer"]["params"]["lr"] = 1.0
    values["deepspeed"].pop("scheduler")
    values["encoder"]["similarity"] = "dot"
    with pytest.raises(RunError, match="the run has collapsed") as caught:
        run_tiny(values, "run.steps=100", "run.log_every=1", "run.save_every=100")
    assert caught.value.fix
    assert "start a new run" in caught.value.fix


def test_a_full_disk_keeps_the_last_checkpoint_whole(values: dict[str, Any], tmp_path: Path, run_cli: RunCli) -> None:
    """A limit on file sizes stands for the full disk: the write fails in the middle of a file."""
    straight = run_tiny(values, f"run.output={tmp_path / 'straight'}")
    folder = run_tiny(values, "run.steps=2")
    config = write_config(tmp_path / "config.yaml", values)
    largest = max(path.stat().st_size for path in (checkpoints_of(folder)[-1] / "engine").iterdir())
    done = run_cli("train", "--config", config, largest_file=largest // 2)
    assert done.returncode == 2, done.stderr
    assert "the checkpoint could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in checkpoints_of(folder)] == ["step-00000002"]
    assert not list((folder / "checkpoints").glob(".partial-*"))
    run_tiny(values)
    assert logged(folder)[-1] == logged(straight)[-1]


def test_a_folder_of_another_run_is_refused_with_the_keys(values: dict[str, Any], tmp_path: Path) -> None:
    run_tiny(values, "run.steps=2")
    with pytest.raises(ConfigError) as caught:
        run_tiny(values, "objective.queue_size=30", "run.steps=3", "run.log_every=1")
    assert "objective.queue_size: 20 there, 30 here" in str(caught.value)
    assert "run." not in caught.value.what
    stranger = tmp_path / "photos"
    stranger.mkdir()
    (stranger / "cat.png").write_bytes(b"")
    with pytest.raises(StoreError, match=r"is not a training run: it holds cat\.png"):
        run_tiny(values, f"run.output={stranger}")


def test_a_start_that_failed_binds_nobody(values: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        run_tiny(values, "data.languages=[en, de]")
    run_tiny(values, "run.steps=1")


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        (["data.tokens=nowhere"], StoreError, "this is not a token store"),
        (["data.languages=[en, xx]"], DataError, "no windows in xx"),
        (["data.window=63"], ConfigError, "data.window (or max_tokens) is 63 tokens, the encoder takes 62"),
        (["deepspeed.fp16.enabled=true"], ConfigError, "fp16 is set"),
        (
            ["deepspeed.zero_optimization.stagee=1"],
            ConfigError,
            "DeepSpeed refuses its block",
        ),
        (
            ["objective={kind: inbatch, temperature: 0.1}", "deepspeed.train_micro_batch_size_per_gpu=1"],
            ConfigError,
            "a batch of 1 pair over all processes has no negatives",
        ),
        (
            ["objective={kind: inbatch, temperature: 0.1}", "data.view.keys_per_query=2"],
            ConfigError,
            "keys_per_query is 2",
        ),
        (["evaluation.sets=[nowhere]"], DataError, "no such folder"),
        (["run.output=/dev/null/run"], StoreError, "this is a file, but a folder is needed"),
        ([f"evaluation.sets=[{ATLAS}]", "evaluation.metric=mean/mrr"], ConfigError, "evaluation.metric is 'mean/mrr'"),
        (["objective.momentum_rise_updates=5"], ConfigError, "a rising momentum needs both"),
        (["encoder={name: nowhere/at-all}"], UserError, "nowhere/at-all"),
    ],
    ids=lambda value: value[0].split("=")[0] if isinstance(value, list) else None,
)
def test_mistakes_are_refused_before_training(
    values: dict[str, Any], changes: list[str], error: type[UserError], what: str
) -> None:
    with pytest.raises(error) as caught:
        run_tiny(values, *changes)
    assert what in str(caught.value)


def test_tokens_of_another_tokenizer_are_refused(
    values: dict[str, Any], tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    from mcontriever.preparation.vocabulary import train_tokenizer

    values["encoder"]["tokenizer"] = str(train_tokenizer(sentences, tmp_path / "other", vocabulary=200))
    with pytest.raises(StoreError, match="the encoder has another tokenizer"):
        run_tiny(values)


def test_a_checkpoint_of_another_model_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    other = run_tiny(values, "encoder.architecture.hidden_size=16", f"run.output={tmp_path / 'other'}", "run.steps=1")
    run_tiny(values, "run.steps=1")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.copytree(other / "checkpoints", tmp_path / "run" / "checkpoints")
    with pytest.raises(ModelError, match="the checkpoint is of another model: its encoder is"):
        run_tiny(values, "run.steps=2")


@pytest.mark.parametrize(("file", "kept"), [("objective.safetensors", 1000), ("engine/mp_rank_00_model_states.pt", 0)])
def test_a_file_of_a_checkpoint_that_is_cut_or_gone_is_one_clear_error(
    values: dict[str, Any], file: str, kept: int
) -> None:
    damaged = checkpoints_of(run_tiny(values, "run.steps=1"))[-1] / file
    content = damaged.read_bytes()
    damaged.unlink()
    if kept:
        damaged.write_bytes(content[:kept])
    with pytest.raises(StoreError, match=r"the checkpoint cannot be read[\s\S]*remove this folder"):
        run_tiny(values, "run.steps=2")


def test_a_damaged_checkpoint_is_one_clear_error(values: dict[str, Any]) -> None:
    folder = run_tiny(values, "run.steps=2")
    for file in (checkpoints_of(folder)[-1] / "engine").iterdir():
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(StoreError, match="the checkpoint cannot be read") as caught:
        run_tiny(values)
    assert "the same command then resumes from the one before" in str(caught.value.fix)
