"""Logs and progress on stderr: a rich bar on a terminal, plain lines elsewhere; stdout is for results only."""

import logging
import sys
import time
from types import TracebackType
from typing import Any

from mcontriever.amounts import shown_duration
from mcontriever.shown_text import shown_message, shown_text

log = logging.getLogger("mcontriever")

PLAIN_LINE_SECONDS = 10.0
_state = {"quiet": False}


def setup_logging(level: str = "info", quiet: bool = False) -> None:
    """Send our log to stderr. `quiet` keeps warnings and errors only, and hides progress."""
    _state["quiet"] = quiet
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeFormatter("%(message)s" if level != "debug" else "%(asctime)s %(name)s %(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else getattr(logging, level.upper()))


class _SafeFormatter(logging.Formatter):
    """Foreign parts of a message cannot control the terminal or show a password."""

    def format(self, record: logging.LogRecord) -> str:
        return shown_message(super().format(record))


def track(total: int | None, label: str, unit: str = "items") -> "Progress":
    """Progress over `total` units (None: unknown), used as a context manager."""
    return Progress(total, label, unit)


class Progress:
    """`advance(n, share="sw 12 %")` moves it on; the fields are shown behind the counts."""

    def __init__(self, total: int | None, label: str, unit: str) -> None:
        self.total, self.label, self.unit = total, label, unit
        self.done = 0
        self._fields: dict[str, object] = {}
        self._started = self._last_line = time.monotonic()
        self._bar = None
        self._plain = not _state["quiet"] and not sys.stderr.isatty()
        if not _state["quiet"] and sys.stderr.isatty():
            self._bar, self._task = _rich_bar(total, label)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._plain and kind is None and self._last_line != self._started:
            log.info(self._line())

    def advance(self, count: int = 1, **fields: object) -> None:
        self.done += count
        self._fields.update(fields)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, detail=self._detail())
        elif self._plain and time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = time.monotonic()
            log.info(self._line())

    def _detail(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        shown = "".join(f"  {name} {shown_text(str(value))}" for name, value in self._fields.items())
        return f"{self.done / seconds:,.0f} {self.unit}/s{shown}"

    def _line(self) -> str:
        if not self.total:
            return f"{self.label}: {self.done:,} {self.unit}, {self._detail()}"
        seconds = time.monotonic() - self._started
        left = seconds / max(self.done, 1) * max(self.total - self.done, 0)
        share = 100 * self.done / self.total
        counts = f"{self.done:,} of {self.total:,} {self.unit} ({share:.0f} %)"
        return f"{self.label}: {counts}, {self._detail()}, {shown_duration(left)} left"


def _rich_bar(total: int | None, label: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=Console(stderr=True),
    )
    return bar, bar.add_task(label, total=total, detail="")
