"""The command line's manners: help, version, one message and exit code 2 for a mistake."""

import re

import pytest

from tests.conftest import RunCli


def test_version(run_cli: RunCli) -> None:
    done = run_cli("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"mcontriever \d+\.\d+\.\d+\n", done.stdout)


def test_help_lists_every_verb_and_each_has_help(run_cli: RunCli) -> None:
    from typer.main import get_command

    from mcontriever.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    shown = run_cli("--help")
    assert shown.returncode == 0
    for name, command in commands.items():
        assert re.search(rf"^\s+{name}\s+\S", shown.stdout, re.M), f"{name} has no line in the help"
        assert command.help, name
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or parameter.help, (
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
def test_a_mistake_is_one_message_and_exit_code_2(run_cli: RunCli, arguments: list[str], expected: str) -> None:
    done = run_cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
