"""Child processes that never outlive their parent, even if the parent is killed.

A command started with `run_command` gets SIGTERM when we die, so that it can save what it has. A process of
multiprocessing calls `end_with_parent` first.
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence

from mcontriever.errors import ConfigError
from mcontriever.prompt_end import INTERRUPTED, time_to_save

PROCESSES_PER_CORE = 16
PR_SET_PDEATHSIG = 1  # of Linux's prctl: which signal a process gets when its parent dies


def check_count(processes: int, option: str) -> None:
    """A digit too many must not start thousands of processes."""
    cores = len(os.sched_getaffinity(0))
    if processes > PROCESSES_PER_CORE * cores:
        raise ConfigError(
            f"{option} {processes:,} are more than {PROCESSES_PER_CORE} processes for each of the {cores} cores here",
            where="the command line",
            fix=f"give {cores} or so, {PROCESSES_PER_CORE * cores} at most",
        )


def run_command(words: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Its exit code. SIGTERM and Ctrl-C are passed on, and the command is waited for while it saves.

    A command that such a signal has interrupted interrupts this process too.
    """
    process = subprocess.Popen(words, env=environment, preexec_fn=_ask_for_signal)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        with time_to_save():
            code = process.wait()
    except KeyboardInterrupt:  # the terminal has sent it to the command too
        with time_to_save():
            process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if code in (INTERRUPTED, -signal.SIGTERM):
        raise KeyboardInterrupt
    return code


def end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


_LIBC = ctypes.CDLL(None)


def _ask_for_signal() -> None:
    """In the child, before the command; does nothing outside Linux."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
