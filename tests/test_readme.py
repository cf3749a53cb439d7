"""Every command and every line of Python in the README runs as it stands there."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.two_ranks import free_port, start_as_launched
from tests.warm_processes import run_command

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def commands(kind: str) -> list[str]:
    return [line for language, block in BLOCKS if language == kind for line in block.splitlines() if line.strip()]


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {language for language, _ in BLOCKS} <= {"bash", "sh", "python", "console"}


def as_launched(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """`deepspeed --num_gpus N mcontriever/train.py ...` in N ranks."""
    launcher, option, ranks, script, *arguments = words
    assert (launcher, option, script) == ("deepspeed", "--num_gpus", "mcontriever/train.py")
    outputs = folder / "outputs-of-ranks"
    outputs.mkdir()
    processes = start_as_launched(train_command, arguments, outputs, folder, world=int(ranks))
    for process in processes:
        process.join(400)
    printed = ["".join(path.read_text() for path in sorted(outputs.glob(f"{name}-*"))) for name in ("stdout", "stderr")]
    assert all(process.exitcode is not None for process in processes), printed
    return subprocess.CompletedProcess(words, max(abs(process.exitcode or 0) for process in processes), *printed)


def train_command(words: list[str], outputs: Path, folder: Path) -> None:
    os.chdir(folder)
    run_command(["train", *words], [str(outputs / f"{name}-{os.environ['RANK']}") for name in ("stdout", "stderr")])


@pytest.mark.long(80)
def test_the_blocks_run_in_order(tmp_path: Path, run_cli: RunCli) -> None:
    """In processes forked from a warm one: each start would cost seconds of imports.

    So are the ranks that `deepspeed` starts. test_train_ranks.py has the launcher itself.
    """
    for name in ("mcontriever", "configs", "data_recipes", "benchmarks"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    for language, block in BLOCKS:
        parts = [block] if language == "python" else block.splitlines() if language == "bash" else []
        for part in parts:
            words = shlex.split(part, comments=True)
            if language == "python":
                done = run_cli("python", "-c", part, cwd=tmp_path)
            elif words[0] == "mcontriever":
                done = run_cli(*words[1:], cwd=tmp_path, MASTER_PORT=str(free_port()))
            else:
                done = as_launched(words, tmp_path)
            assert done.returncode == 0, f"{part}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", commands("sh"))
def test_what_needs_a_cluster_or_a_hub_is_at_least_well_formed(line: str) -> None:
    """The verb exists, its options exist, and the files of the project that it names are there."""
    from typer.main import get_command

    from mcontriever.cli import app

    words = shlex.split(line, comments=True)
    for word in words:
        if word.startswith(("configs/", "data_recipes/")):
            assert (REPOSITORY / word).is_file(), word
    if words[0] == "deepspeed":
        words = ["mcontriever", "train", *words[words.index("mcontriever/train.py") + 1 :]]
    assert words[0] == "mcontriever"
    command = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    command.make_context(words[1], words[2:])
    if words[1] in ("prepare", "tokenizer"):
        assert (REPOSITORY / "data_recipes" / f"{words[2]}.yaml").is_file()


def test_links_inside_the_project_lead_somewhere() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (REPOSITORY / target).exists(), target
