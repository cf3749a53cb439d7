"""deepspeed_launcher.py: what the launcher would refuse with a traceback is one message before it starts."""

from pathlib import Path

import pytest
from deepspeed.launcher.runner import fetch_hostfile

from mcontriever.errors import ConfigError
from mcontriever.training.deepspeed_launcher import check_hostfile, found_launcher
from tests.conftest import REPOSITORY, RunCli

TINY = REPOSITORY / "configs" / "pretrain" / "tiny_cpu.yaml"


@pytest.fixture
def hostfile(tmp_path: Path) -> Path:
    return tmp_path / "hosts"


@pytest.mark.parametrize("text", ["worker-1 slots=4\n# worker-1\n\n  worker-2 slots=4 # two\n", "a slots=1"])
def test_a_hostfile_that_deepspeed_reads_passes(hostfile: Path, text: str) -> None:
    hostfile.write_text(text)
    assert check_hostfile(hostfile) == sum(fetch_hostfile(str(hostfile)).values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a slots=4\nb slots=4\na slots=2\n", r"host a is in line 1 and again in line 3\n.*hosts\n.*a slots=N"),
        ("a slots=4\nb 4\n", r"line 2 is 'b 4'\n.*hosts\n.*HOST slots=N"),
        ("# nobody\n", r"names no host\n.*hosts\n.*HOST slots=N"),
    ],
)
def test_what_deepspeed_refuses_is_one_message(hostfile: Path, text: str, message: str) -> None:
    hostfile.write_text(text)
    with pytest.raises(ValueError, match="Hostfile"):
        fetch_hostfile(str(hostfile))
    for words in (["--hostfile", hostfile], ["-H", hostfile], [f"--hostfile={hostfile}"], [f"-H{hostfile}", "--quiet"]):
        with pytest.raises(ConfigError, match=message):
            found_launcher(["deepspeed", *map(str, words)])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a slots=0\n", "line 1 is 'a slots=0'"), (b"caf\xe9 slots=2\n", "cannot be read.*utf-8")],
)
def test_what_deepspeed_would_trip_over_later_is_one_message_too(hostfile: Path, content: bytes, message: str) -> None:
    hostfile.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        check_hostfile(hostfile)


def test_a_hostfile_option_without_a_file_is_named() -> None:
    with pytest.raises(ConfigError, match="--hostfile without a file"):
        found_launcher(["deepspeed", "--hostfile"])


def test_hosts_of_another_launcher_are_not_read_as_a_file(
    hostfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mpirun -H` takes names of hosts, and its hostfile may name one twice."""
    launcher = tmp_path / "mpirun"
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    hostfile.write_text("a slots=4\na slots=4\n")
    words = ["mpirun", "-H", "a:4,b:4", "--hostfile", str(hostfile)]
    assert found_launcher(words) == [str(launcher), *words[1:]]


def test_an_estimate_checks_the_hostfile_and_counts_its_processes(hostfile: Path, cli: RunCli) -> None:
    hostfile.write_text("a slots=4\nb slots=4\n")
    config = REPOSITORY / "configs" / "pretrain" / "contriever_english.yaml"
    estimates = [
        cli("train", "--config", config, "--estimate", *words).stdout
        for words in (["--hostfile", hostfile], ["--gpus", 8], [])
    ]
    assert estimates[0] == estimates[1] != estimates[2]
    hostfile.write_text("a slots=4\na slots=4\n")
    done = cli("train", "--config", config, "--estimate", "--hostfile", hostfile)
    assert done.returncode == 2
    assert "the host a is in line 1 and again in line 2" in done.stderr


def test_a_missing_hostfile_is_named(tmp_path: Path) -> None:
    """DeepSpeed would go on without the other machines."""
    with pytest.raises(ConfigError, match=r"no such hostfile\n.*gone"):
        check_hostfile(tmp_path / "gone")


def test_train_checks_its_hostfile_before_anything_starts(hostfile: Path, cli: RunCli) -> None:
    hostfile.write_text("a slots=4\na slots=4\n")
    done = cli("train", "--config", TINY, "--hostfile", hostfile)
    assert done.returncode == 2
    assert "the host a is in line 1 and again in line 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_train_hands_its_options_to_the_launcher(
    hostfile: Path, tmp_path: Path, cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher that needs no other machines stands in for DeepSpeed's: it writes down what it was asked."""
    launcher = tmp_path / "deepspeed"
    launcher.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\nexit 3\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    hostfile.write_text("a slots=4\n")
    done = cli("train", "--config", TINY, "--set", "run.steps=1", "--hostfile", hostfile, "--master_port", 29501)
    assert done.returncode == 3, done.stderr
    script = REPOSITORY / "mcontriever" / "train.py"
    expected = ["--hostfile", hostfile, "--master_port", 29501, script, "--config", TINY, "--set", "run.steps=1"]
    assert (tmp_path / "asked").read_text().split("\n")[:-1] == [str(word) for word in expected]
