"""SIGTERM and Ctrl-C end a command within seconds, also one that cannot hear them.

Python answers a signal between two of its own instructions. A command that waits inside a library (for a rank that
never comes, say) or whose KeyboardInterrupt was lost in a library's callback would run on. Here the signal itself wakes
a thread, which ends the process if nothing else has done so. What is being written may be cut off at any moment anyway.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator

GRACE_SECONDS = 5.0
EXIT_SECONDS = 20.0  # for the ranks of a run that has saved, which leave each other in order
TICK_SECONDS = 1.0
INTERRUPTED = 130
ADVICE = "interrupted; run the same command again to resume"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_pipe: list[int] = []  # both ends, once a thread watches
_saving: list[object] = []


def end_promptly() -> None:
    """From now on SIGTERM does what Ctrl-C does, and either ends this process soon. Called in the main thread."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not _pipe:
        _pipe[:] = os.pipe()
        os.set_blocking(_pipe[1], False)
        threading.Thread(target=_watch, args=(_pipe[0],), name="signals", daemon=True).start()
    signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)


@contextlib.contextmanager
def time_to_save() -> Iterator[None]:
    """In this block a command answers signals itself, and takes as long as it needs."""
    token = object()
    _saving.append(token)
    try:
        yield
    finally:
        _saving.remove(token)


def _watch(reader: int) -> None:
    ends_at: float | None = None
    while True:
        heard, _, _ = select.select([reader], [], [], None if ends_at is None else TICK_SECONDS)
        if heard and not any(number in _SIGNALS for number in os.read(reader, 64)):
            continue
        if ends_at is None or _saving:
            ends_at = time.monotonic() + (EXIT_SECONDS if _saving else GRACE_SECONDS)
        elif time.monotonic() >= ends_at:
            os.write(2, f"{ADVICE}\n".encode())
            os._exit(INTERRUPTED)


def _forget() -> None:
    """A forked process has no such thread, and must not wake its parent's."""
    if _pipe:
        signal.set_wakeup_fd(-1)
        for descriptor in _pipe:
            os.close(descriptor)
    _pipe.clear()
    _saving.clear()


os.register_at_fork(after_in_child=_forget)
