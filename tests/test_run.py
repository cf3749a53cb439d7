"""A plan of stages: checked as a whole first, followed stage by stage, started again without doing anything twice."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcontriever import run as plan
from mcontriever.config import PlanConfig, parse_config
from mcontriever.config.plan import load_plan
from mcontriever.errors import ConfigError, RunError
from mcontriever.training.metrics_log import METRICS, read_log
from tests.conftest import SENTENCES, RunCli

TEXTS = [text for group in SENTENCES.values() for text in group]


@pytest.fixture
def stages(tmp_path: Path, tiny_encoder_dir: Path) -> list[dict[str, Any]]:
    """Train for three steps, with negatives that are mined again after the second one."""
    examples = tmp_path / "train.jsonl"
    records = [{"query": text[:20], "positive": text} for text in TEXTS]
    examples.write_text("".join(json.dumps(record) + "\n" for record in records))
    train = {
        "stage": "finetune",
        "encoder": {"name": str(tiny_encoder_dir)},
        "data": {
            "examples": {"format": "columns", "paths": [str(examples)]},
            "hard_ratio": 1.0,
            "passage_length": 32,
            "refresh_every": 2,
        },
        "objective": {"kind": "contrastive", "temperature": 0.05},
        "run": {"output": str(tmp_path / "run"), "steps": 3, "log_every": 1},
        "deepspeed": {
            "train_micro_batch_size_per_gpu": 4,
            "optimizer": {"type": "AdamW", "params": {"lr": 0.001, "torch_adam": True}},
        },
    }
    searchers = [{"kind": "dense", "negatives": 2, "last_rank": 10}]
    return [{"alternate": {"train": train, "mine": {"searchers": searchers}}}]


def followed(stages: list[dict[str, Any]], output: Path) -> None:
    plan.run(parse_config(PlanConfig, {"output": str(output), "stages": stages}, source="plan.yaml"))


@pytest.mark.long(6)
def test_a_plan_is_followed_to_its_end_once(
    stages: list[dict[str, Any]], tmp_path: Path, cli: RunCli, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands in processes forked from a warm one."""

    def run_warm(words: list[str]) -> int:
        assert words[:3] == [sys.executable, "-m", "mcontriever"]
        ended = run_cli(*words[3:])
        assert ended.stdout == ""
        sys.stderr.write(ended.stderr)
        return ended.returncode

    monkeypatch.setattr(plan, "run_command", run_warm)
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({"output": str(tmp_path / "plan"), "stages": stages}))
    done = cli("run", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    run = tmp_path / "run"
    assert [line["step"] for line in read_log(run / METRICS)] == [1, 2, 3]
    mined_with = json.loads((run / "negatives" / "step-00000002" / "manifest.json").read_text())["made_by"]
    assert mined_with["model"] == str(run / "checkpoints" / "step-00000002" / "model")
    assert not (run / "negatives" / "step-00000002" / "store").exists()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    followed(stages, tmp_path / "plan")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_configuration_of_one_training_names_its_verb(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({"stage": "finetune", "encoder": {}, "run": {}}))
    with pytest.raises(ConfigError, match=rf"not a plan of several stages(.|\n)*mcontriever train --config {path}"):
        load_plan(path)
    path.write_text(yaml.safe_dump({"output": "x", "stage": [], "stages": [{"command": ["doctor"]}]}))
    with pytest.raises(ConfigError, match="unknown key stage"):
        load_plan(path)


def test_every_stage_is_checked_before_the_first_one_starts(stages: list[dict[str, Any]], tmp_path: Path) -> None:
    stages.insert(0, {"command": ["tokenizer", "atlas", "--output", str(tmp_path / "tokenizer")]})
    train = stages[1]["alternate"]["train"]
    train["data"]["hard_ration"] = train["data"].pop("hard_ratio")
    with pytest.raises(ConfigError, match=r"unknown key data.hard_ration(.|\n)*stages.1.alternate.train"):
        followed(stages, tmp_path / "plan")
    del train["data"]["hard_ration"], train["data"]["refresh_every"]
    with pytest.raises(ConfigError, match=r"data.refresh_every is not set"):
        followed(stages, tmp_path / "plan")
    with pytest.raises(
        ConfigError, match=r"a stage is one of train, mine, generate, alternate, command; found mine, tr"
    ):
        followed([{"mine": {}, "train": {}}], tmp_path / "plan")
    values = {"output": str(tmp_path / "plan"), "launcher": ["no-such-launcher", "-n", "2"], "stages": stages[:1]}
    with pytest.raises(ConfigError, match=r"the launcher no-such-launcher is not found(.|\n)*launcher=\[\]"):
        plan.run(parse_config(PlanConfig, values, source="plan.yaml"))
    assert not (tmp_path / "tokenizer").exists()


def test_commands_are_done_once_and_a_failure_names_its_stage(tmp_path: Path) -> None:
    followed([{"command": ["--version"]}], tmp_path / "plan")
    state = tmp_path / "plan" / "commands-done.json"
    assert json.loads(state.read_text()) == {"stage-01-command": ["--version"]}
    written = state.stat().st_mtime_ns
    followed([{"command": ["--version"]}], tmp_path / "plan")
    assert state.stat().st_mtime_ns == written
    with pytest.raises(RunError, match=r"stage-01-command ended with exit code 2(.|\n)*no-such-verb"):
        followed([{"command": ["no-such-verb"]}], tmp_path / "plan")
