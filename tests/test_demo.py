"""The demo's commands are ones that a user could type, and it stops where one of them stops.

That all of them run is `make demo`; the README's blocks, which are tested, hold the same verbs.
"""

import shlex
from pathlib import Path

import pytest

from mcontriever import demo
from mcontriever.assembly.training_config import load_train_config
from mcontriever.errors import RunError
from tests.conftest import REPOSITORY


def test_every_printed_command_is_well_formed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.main import get_command

    from mcontriever.cli import app

    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(demo, "run_command", lambda words, environment: 0)
    demo.run(str(tmp_path))
    typed = [shlex.split(line[2:]) for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    verbs = ["embed", "search", "search", "prepare", "train.py", "export", "benchmark"]
    assert [Path(words[4] if words[0] == "deepspeed" else words[1]).name for words in typed] == verbs
    for words in typed:
        if words[0] == "deepspeed":
            assert words[4] == "mcontriever/train.py"
            config = load_train_config(words[6], words[8::2])
            assert config.run.output == str(tmp_path / "run")
            continue
        command = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
        command.make_context(words[1], words[2:])


def test_it_stops_where_a_command_stops(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(RunError, match=r"`mcontriever embed` ended with exit code"):
        demo.run(str(tmp_path))
