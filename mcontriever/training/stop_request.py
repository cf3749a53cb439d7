"""A request to stop: SIGTERM, SIGINT, or a launcher that has died. The loop saves first, then ends."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import psutil

from mcontriever.progress import log

IMPATIENCE_SECONDS = 2.0  # the launcher forwards a Ctrl-C that the terminal has already sent: not a second request


class StopRequest:
    """`asked` is True once this process received a request to stop. A context manager, around what can be saved."""

    def __init__(self) -> None:
        self._signalled_at: float | None = None
        self._previous: dict[int, Any] = {}
        self._ancestors = _launcher_ancestors()
        self._looked_at = time.monotonic()

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        return self._signalled_at is not None or self._launcher_is_gone()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
            log.warning(f"{signal.Signals(number).name}: saving a checkpoint after this step, then stopping")
        elif number == signal.SIGINT and now - self._signalled_at > IMPATIENCE_SECONDS:
            raise KeyboardInterrupt

    def _launcher_is_gone(self) -> bool:
        """A killed `deepspeed` command leaves its ranks running; they must notice it themselves."""
        if not self._ancestors or time.monotonic() - self._looked_at < 1.0:
            return False
        self._looked_at = time.monotonic()
        if _launcher_ancestors() == self._ancestors:
            return False
        log.warning("the deepspeed launcher is gone: saving a checkpoint, then stopping")
        self._signalled_at = time.monotonic()
        return True


def _launcher_ancestors() -> tuple[int, int] | None:
    """(parent, its parent) under DeepSpeed's launcher on one machine: launch.py and the `deepspeed` command."""
    if os.environ.get("CROSS_SIZE") != "1":
        return None
    try:
        return os.getppid(), psutil.Process(os.getppid()).ppid()
    except psutil.Error:
        return os.getppid(), 0
