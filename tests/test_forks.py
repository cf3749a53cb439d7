"""forks.py: `pytest --forks N` tells what `pytest` tells, and a process that dies fails its test alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FIRST = r"""
import os, signal
import pytest

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("own")
    yield made
    print("taken down", made.name)

def test_passes(folder): assert folder.is_dir()
def test_dies(folder): os.kill(os.getpid(), signal.SIGKILL)
def test_comes_after(folder): assert folder.is_dir()
def test_fails(): print("printed"); os.system("echo by a shell"); assert "north" == "south"
@pytest.mark.skip(reason="for a reason")
def test_is_skipped(): pass
@pytest.mark.parametrize("number", range(5))
def test_reads_what_was_printed(number, capfd):
    print(number)
    assert capfd.readouterr().out == f"{number}\n"
"""
SECOND = """
import pytest

@pytest.fixture
def broken(): raise OSError("no such thing")

def test_cannot_begin(broken): pass
@pytest.mark.long(9)
def test_takes_long(): pass
"""


def pytest_in(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder), "-p", "tests.forks", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    for name, text in (("first", FIRST), ("second", SECOND)):
        (tmp_path / f"test_{name}.py").write_text(text)
    return tmp_path


def outcomes(printed: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\S+)", printed, re.M))


def test_every_outcome_comes_back_and_a_dead_process_costs_its_test(two_files: Path) -> None:
    done = pytest_in(two_files, "--forks", "2", "-rA", "-W", "ignore::pytest.PytestUnknownMarkWarning")
    assert done.returncode == 1, done.stdout
    numbers = {("PASSED", f"test_reads_what_was_printed[{number}]") for number in range(5)}
    others = {("PASSED", "test_passes"), ("PASSED", "test_comes_after"), ("PASSED", "test_takes_long")}
    wrong = {("FAILED", "test_dies"), ("FAILED", "test_fails"), ("ERROR", "test_cannot_begin")}
    assert outcomes(done.stdout) == numbers | others | wrong
    assert "2 failed, 8 passed, 1 skipped, 1 error in" in done.stdout
    assert "the process that ran this test ended with code -9" in done.stdout
    assert "printed\nby a shell" in done.stdout
    assert "assert 'north' == 'south'" in done.stdout
    assert "no such thing" in done.stdout


def test_the_first_failure_ends_it_where_that_is_asked(two_files: Path) -> None:
    done = pytest_in(two_files, "--forks", "2", "-x", "-W", "ignore::pytest.PytestUnknownMarkWarning")
    assert "stopping after 1 failures" in done.stdout
    assert done.returncode == 1


def test_pytest_may_be_typed_bare() -> None:
    """Not `python -m pytest`, which puts the folder on the path, and so finds the plugin that pyproject.toml names."""
    bare = [Path(sys.executable).with_name("pytest"), "--collect-only", "tests/test_chance.py"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(bare, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
