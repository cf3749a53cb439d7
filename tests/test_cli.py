"""The command line's manners: help, version, one message and exit code 2 for a mistake."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import COMMAND_SECONDS, RunCli


def test_version(run_cli: RunCli) -> None:
    done = run_cli("--version", anew=True)
    assert done.returncode == 0
    assert re.fullmatch(r"mcontriever \d+\.\d+\.\d+\n", done.stdout)


def test_help_lists_every_verb_and_each_has_help(cli: RunCli) -> None:
    from typer.main import get_command

    from mcontriever.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    shown = cli("--help")
    assert shown.returncode == 0
    for name, command in commands.items():
        assert re.search(rf"^\s+{name}\s+\S", shown.stdout, re.M), f"{name} has no line in the help"
        assert command.help, name
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or parameter.help or parameter.hidden, (
                f"{name} {parameter.name} is not explained"
            )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--log-level", "loud", "prepare", "x.yaml"], "error: --log-level loud is not a level"),
        (["nonsense"], "No such command 'nonsense'"),
        (["prepare", "does-not-exist.yaml", "--output", "x", "--tokenizer", "y"], "error: no such file"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(cli: RunCli, arguments: list[str], expected: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["search", "--help"]])
def test_a_full_disk_under_the_help(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mcontriever", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the results cannot be written: No space left on device\n  where: standard")
    assert "Traceback" not in done.stderr


def has_open(pid: int, path: Path) -> bool:
    try:
        return any(os.path.realpath(one) == str(path) for one in Path(f"/proc/{pid}/fd").glob("*"))
    except FileNotFoundError:  # one was closed meanwhile
        return False


def test_an_interrupted_verb_says_how_to_go_on(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    """By Ctrl-C, in a process that was started anew. test_prompt_end.py has SIGTERM."""
    pipe = tmp_path / "endless.jsonl"
    os.mkfifo(pipe)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: x\nlicence: none\nsources: [{{reader: jsonl, paths: ['{pipe}'], languages: [en]}}]\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "mcontriever", "prepare", recipe, "--output", tmp_path / "out"]
    running = subprocess.Popen(
        [*command, "--tokenizer", tiny_tokenizer_dir, "--workers", "1"], stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    signal.signal(signal.SIGALRM, lambda *_: running.kill())
    signal.alarm(COMMAND_SECONDS)
    with running, open(os.open(pipe, os.O_RDWR), "w"):
        while running.poll() is None and not has_open(running.pid, pipe):
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
        signal.alarm(0)
        assert "interrupted; run the same command again to resume" in running.stderr.read()


def test_ctrl_c_before_the_verb_has_begun(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The command line itself takes a moment to be made, in a library that does not expect it."""
    from mcontriever.cli import main

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mcontriever.cli._command", interrupted)
    monkeypatch.setattr("mcontriever.cli.end_promptly", lambda: None)  # it would watch the test process
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 130
    assert "run the same command again" in caplog.text
