"""A killed parent leaves no child behind, and a child that ends tells how."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from mcontriever.child_processes import run_command

WAITING = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
COMMAND = (
    "import sys; from mcontriever.child_processes import run_command; run_command([sys.executable, *sys.argv[1:]])"
)
PROCESS = """
import multiprocessing, pathlib, sys, time
from mcontriever.child_processes import end_with_parent

def wait(place):
    end_with_parent()
    pathlib.Path(place).touch()
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=wait, args=(sys.argv[1],))
    process.start()
    process.join()
"""


def until(condition: object) -> None:
    deadline = time.monotonic() + 120
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def killed_parent_leaves_nobody(words: list[str], started: Path) -> None:
    parent = subprocess.Popen([sys.executable, *words])
    until(started.exists)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    parent.kill()
    parent.wait()
    until(lambda: not psutil.wait_procs(children, timeout=0)[1])


def test_a_command_dies_with_its_parent(tmp_path: Path) -> None:
    killed_parent_leaves_nobody(["-c", COMMAND, "-c", WAITING, str(tmp_path / "started")], tmp_path / "started")


def test_a_process_dies_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PROCESS)
    killed_parent_leaves_nobody([str(script), str(tmp_path / "started")], tmp_path / "started")


def test_the_exit_code_is_the_commands() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run_command([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    assert signal.getsignal(signal.SIGTERM) is before
