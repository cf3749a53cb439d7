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

PR_SET_PDEATHSIG = 1  # of Linux's prctl: which signal a process gets when its parent dies


def run_command(words: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Its exit code. SIGTERM and Ctrl-C are passed on, and the command is waited for while it saves."""
    process = subprocess.Popen(words, env=environment, preexec_fn=_ask_for_signal)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal has sent it to the command too
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end as soon as it has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


_LIBC = ctypes.CDLL(None)


def _ask_for_signal() -> None:
    """In the child, before the command; where the system is not Linux, nothing."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
