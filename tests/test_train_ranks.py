"""Training on two ranks under DeepSpeed's launcher: all ZeRO stages, kills, signals, and going on with one rank."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from mcontriever import train
from mcontriever.assembly.training_config import load_train_config
from mcontriever.training.checkpoints import checkpoints_of, read_state
from mcontriever.training.metrics_log import METRICS, read_log
from tests.conftest import REPOSITORY
from tests.training.stages_on_two_ranks import WHOLE_BATCH, train_all
from tests.training.tiny_runs import AUTOCAST, logged, tiny_values, write_config
from tests.two_ranks import free_port, start_as_launched
from tests.warm_processes import run_command

pytestmark = pytest.mark.long(50)

STAGES = (0, 1, 2, 3)
TRAIN = REPOSITORY / "mcontriever" / "train.py"


def launch(script: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start `deepspeed --num_gpus 2 script ...` as a user does."""
    deepspeed = Path(sys.executable).with_name("deepspeed")
    command = [deepspeed, "--quiet", "--num_gpus", 2, "--master_port", free_port(), script, *arguments]
    environment = {**os.environ, "PATH": f"{deepspeed.parent}:{os.environ['PATH']}", "DS_ACCELERATOR": "cpu"}
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=REPOSITORY,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=1200)
    return process.returncode, output


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_tokens_dir: Path, tiny_tokenizer_dir: Path) -> Path:
    """The folder that stages_on_two_ranks.py has filled."""
    folder = tmp_path_factory.mktemp("runs")
    values = tiny_values(folder, tiny_tokens_dir, tiny_tokenizer_dir)
    values["deepspeed"]["torch_autocast"] = AUTOCAST
    write_config(folder / "tiny.yaml", values)
    for rank in start_as_launched(train_all, folder):
        rank.join()
        assert rank.exitcode == 0
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_every_zero_stage_runs_and_resumes_bit_for_bit(runs: Path, stage: int) -> None:
    straight, pieces = runs / f"straight-{stage}", runs / f"pieces-{stage}"
    assert [line["step"] for line in logged(straight)] == [3, 6, 7]
    assert logged(pieces) == logged(straight)
    for name in ("model/model.safetensors", "optimizer.safetensors", "objective.safetensors"):
        ends = [load_file(checkpoints_of(folder)[-1] / name) for folder in (straight, pieces)]
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0]), name


@pytest.mark.parametrize("stage", STAGES[1:])
def test_zero_stages_learn_the_same(runs: Path, stage: int) -> None:
    for plain, sharded in zip(logged(runs / "straight-0"), logged(runs / f"straight-{stage}"), strict=True):
        assert sharded["loss"] == pytest.approx(plain["loss"], rel=1e-3)
        assert sharded["gradient_norm"] == pytest.approx(plain["gradient_norm"], rel=2e-2)


@pytest.mark.filterwarnings("ignore:`torch.*` is deprecated")
@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_to_one_continues_with_the_same_samples(runs: Path, stage: int) -> None:
    """One rank takes two micro steps for what two ranks did in one: the same samples, dropout and negatives."""
    folder = runs / f"for-one-rank-{stage}"
    changes = [f"run.output={folder}", f"deepspeed.zero_optimization.stage={stage}"]
    train.run(load_train_config(runs / "tiny.yaml", changes))
    assert read_state(checkpoints_of(folder)[-1])["world_size"] == 1
    for one, two in zip(logged(folder), logged(runs / f"straight-{stage}"), strict=True):
        exact = ("step", "samples", "tokens", "rows", "languages", "learning_rate", "queue_filled")
        assert {name: one[name] for name in exact} == {name: two[name] for name in exact}
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-3)


@pytest.mark.filterwarnings("ignore:`torch.*` is deprecated")
def test_one_two_and_four_processes_learn_the_same_from_the_same_batch(runs: Path) -> None:
    """The same samples, losses equal within the rounding of float32."""
    config = runs / "tiny.yaml"
    train_with(config, [f"run.output={runs / 'whole-batch-on-1'}", *WHOLE_BATCH])
    four = start_as_launched(train_with, config, [f"run.output={runs / 'whole-batch-on-4'}", *WHOLE_BATCH], world=4)
    for rank in four:
        rank.join()
        assert rank.exitcode == 0
    logs = [logged(runs / name) for name in ("whole-batch-on-1", "whole-batch", "whole-batch-on-4")]
    worlds = [
        read_state(checkpoints_of(runs / f"whole-batch{end}")[-1])["world_size"] for end in ("-on-1", "", "-on-4")
    ]
    assert worlds == [1, 2, 4]
    assert len(logs[0]) == 7
    exact = ("step", "samples", "tokens", "rows", "languages", "learning_rate", "queue_filled")
    for log in logs[1:]:
        for one, several in zip(logs[0], log, strict=True):
            assert {name: one[name] for name in exact} == {name: several[name] for name in exact}
            assert one["loss"] == pytest.approx(several["loss"], rel=1e-5)


def test_a_run_that_is_killed_and_asked_to_stop_equals_the_straight_run(runs: Path) -> None:
    """The same run three times: SIGKILL in the middle, SIGTERM to the launcher in the middle, and to the end."""
    folder = runs / "killed"
    changes = [f"run.output={folder}", "run.steps=24", "run.log_every=1", "run.save_every=3"]
    arguments = ["--config", runs / "tiny.yaml", *(part for change in changes for part in ("--set", change))]

    first = start_as_launched(train_with, runs / "tiny.yaml", changes)
    wait(lambda: len(read_log(folder / METRICS)) >= 4, lambda: all(rank.is_alive() for rank in first))
    for rank in first:
        rank.kill()
        rank.join()
    killed_at = read_state(checkpoints_of(folder)[-1])["step"]
    assert killed_at % 3 == 0

    second = launch(TRAIN, *arguments)
    wait(lambda: len(read_log(folder / METRICS)) >= 8, lambda: second.poll() is None)
    launcher = psutil.Process(second.pid).children()[0]
    launcher.send_signal(signal.SIGTERM)
    _, output = finish(second)
    stopped_at = read_state(checkpoints_of(folder)[-1])["step"]
    assert killed_at < stopped_at < 24
    assert f"resuming from {folder / 'checkpoints'}/step-{killed_at:08}" in output
    assert f"stopped at step {stopped_at}; the same command resumes it" in output
    assert read_log(folder / METRICS)[-1]["step"] == stopped_at

    for rank in start_as_launched(train_with, runs / "tiny.yaml", changes):
        rank.join()
        assert rank.exitcode == 0
    assert logged(folder) == logged(runs / "long")


def train_command(words: list[str], folder: Path) -> None:
    run_command(["train", *words], [str(folder / f"{name}-{os.environ['RANK']}") for name in ("stdout", "stderr")])


def test_a_mistake_is_said_once_and_ends_all_ranks_with_2(runs: Path, tmp_path: Path) -> None:
    changes = (f"run.output={runs / 'x'}", "data.tokens=nowhere")
    words = ["--config", str(runs / "tiny.yaml"), *(part for change in changes for part in ("--set", change))]
    ranks = start_as_launched(train_command, words, tmp_path)
    for rank in ranks:  # the launcher ends the others when the first has ended
        rank.join()
        for other in ranks:
            other.terminate()
        assert rank.exitcode == 2
    output = "".join(path.read_text() for path in sorted(tmp_path.iterdir()))
    assert output.count("this is not a token store") == 1
    assert "Traceback" not in output


def train_with(config: Path, changes: list[str]) -> None:
    train.run(load_train_config(config, changes))


def wait(condition: Callable[[], bool], is_alive: Callable[[], bool]) -> None:
    until = time.monotonic() + 600
    while not condition():
        assert is_alive()
        assert time.monotonic() < until
        time.sleep(0.02)
