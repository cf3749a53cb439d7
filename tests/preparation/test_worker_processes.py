"""worker_processes.py: a killed worker ends the run with advice, and nothing of the pool is left."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from mcontriever.errors import RunError
from mcontriever.preparation.worker_processes import run_in_processes


def work(place: Path, number: int) -> None:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    (place / str(number)).touch()


def test_a_broken_pool_is_closed_before_its_end_is_reported(tmp_path: Path) -> None:
    threads, children = threading.active_count(), set(psutil.Process().children())
    with pytest.raises(RunError, match="a worker process was killed"):
        list(run_in_processes(work, [(tmp_path, number) for number in range(6)], workers=2))
    assert threading.active_count() == threads
    left = set(psutil.Process().children()) - children  # Python keeps one process to track resources
    assert all("resource_tracker" in " ".join(process.cmdline()) for process in left)
