"""Hits as a table for people: score, language, title, best passage; right-to-left text is aligned right."""

import unicodedata
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.containers import Lines
from rich.table import Table
from rich.text import Text

from mcontriever.shown_text import shown_text
from mcontriever.texts.documents import Hit

WIDTH_WITHOUT_TERMINAL = 110
SHOWN_CHARACTERS = 240
FIRST_STRONG_ISOLATE, POP_ISOLATE = "\u2068", "\u2069"


def show_hits(
    hits: Sequence[Hit], explain: bool = False, console: Console | None = None, none: str = "nothing found"
) -> None:
    """`none` is shown when there are no hits."""
    console = console or _console()
    if not hits:
        console.print(none)
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    has_confidence = any(hit.confidence is not None for hit in hits)
    if has_confidence:
        table.add_column("sure", justify="right", no_wrap=True)
    table.add_column("lang", no_wrap=True)
    table.add_column("id", ratio=2)
    has_titles = any(hit.title for hit in hits)
    if has_titles:
        table.add_column("title", ratio=2)
    table.add_column("passage", ratio=7)
    if explain:
        table.add_column("because", no_wrap=True)
    for hit in hits:
        sure = ["" if hit.confidence is None else f"{hit.confidence:.0%}"] if has_confidence else []
        cells: list[str | Text] = [str(hit.rank), f"{hit.score:.4g}", *sure, _cell(hit.language), _cell(hit.id)]
        cells += [_cell(hit.title)] if has_titles else []
        table.add_row(*cells, _cell(_shortened(hit.text)), *([_because(hit)] if explain else []))
    console.print(table)


def is_right_to_left(text: str) -> bool:
    """By the first letter with a direction, as in Unicode's rule."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((direction in ("R", "AL") for direction in directions if direction in ("L", "R", "AL")), False)


def _cell(text: str) -> Text:
    """Each line of right-to-left text is isolated, so a terminal that reorders letters keeps the table's columns.

    Other text has no added characters, so it can be copied.
    """
    text = shown_text(text)
    if not any(unicodedata.bidirectional(character) in ("R", "AL") for character in text):
        return Text(text)
    return _IsolatedText(text, justify="right" if is_right_to_left(text) else "left")


class _IsolatedText(Text):
    def wrap(self, console: Console, width: int, **settings: Any) -> Lines:
        lines = super().wrap(console, width, **settings)
        for line in lines:
            line.plain = f"{FIRST_STRONG_ISOLATE}{line.plain}{POP_ISOLATE}"
        return lines


def _because(hit: Hit) -> str:
    lines = []
    for name, value in hit.parts.items():
        if not name.endswith("_rank"):
            rank = hit.parts.get(f"{name}_rank")
            lines.append(f"{name} {value:.4g}" + (f" (rank {rank:.0f})" if rank else ""))
    return "\n".join(lines)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS].rstrip() + "…"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)
