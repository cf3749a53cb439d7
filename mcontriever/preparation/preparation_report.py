"""What a run of `mcontriever prepare` did in each language, as JSON and as a table."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mcontriever.drops import Drops, listed

TINY = 0.01  # of the largest language


def build_report(records: Iterable[Mapping[str, Any]], window_counts: Mapping[str, int]) -> dict[str, Any]:
    """Add up the shards' records, in their order. For every language, read == kept + the sum of dropped."""
    languages: dict[str, dict[str, Any]] = {}
    drops: dict[str, Drops] = {}
    damaged: list[dict[str, Any]] = []
    for record in records:
        damaged.extend(record["damaged"])
        for language, counted in record["languages"].items():
            row = languages.setdefault(language, _empty_row())
            for name in ("read", "kept", "text_bytes"):
                row[name] += counted[name]
            row["tokens"] += counted["files"]["tokens"]["rows"] if counted["files"] else 0
            row["bytes"] += sum(file["bytes"] for file in counted["files"].values())
            for reason, number in counted["dropped"].items():
                drops.setdefault(language, Drops()).add(reason, number, counted["places"][reason])
    for language, row in languages.items():
        row["dropped"] = dict(sorted(drops[language].counts.items())) if language in drops else {}
        row["windows"] = window_counts.get(language, 0)
        assert row["read"] == row["kept"] + sum(row["dropped"].values())
    rows = dict(sorted(languages.items()))
    places = {language: drops[language].places for language in sorted(drops)}
    return {"languages": rows, "total": _total(rows), "places": places, "damaged_files": damaged}


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """What to know before training on it."""
    found = []
    windows = {language: row["windows"] for language, row in report["languages"].items()}
    largest = max(windows.values(), default=0)
    for language, count in windows.items():
        row = report["languages"][language]
        if not row["kept"]:
            found.append(f"{language}: none of {row['read']:,} documents was kept ({listed(row['dropped'])})")
        elif count < TINY * largest:
            found.append(
                f"{language}: only {count:,} windows, {count / sum(windows.values()):.2%} of all; sampled uniformly, "
                f"each comes {largest / count:,.0f} times as often as one of the largest language"
            )
    for file in report["damaged_files"]:
        found.append(f"{file['path']}:{file['line']}: {file['reason']}: {file['what']}")
    for language, reasons in report["places"].items():
        for reason in ("malformed", "undecodable", "truncated", "too_long_line"):
            if reason in reasons:
                number = report["languages"][language]["dropped"][reason]
                found.append(f"{language}: {number:,} {reason}, first at {'; '.join(reasons[reason])}")
    return found


def print_table(report: Mapping[str, Any], title: str) -> None:
    """The table goes to stderr: stdout is for results."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=140)
    table = Table(title=title, title_justify="left")
    table.add_column("language")
    for name in ("read", "kept", "tokens", "windows", "text MB", "disk MB", "share"):
        table.add_column(name, justify="right")
    table.add_column("dropped")
    all_windows = max(1, report["total"]["windows"])
    for language, row in [*report["languages"].items(), ("all", report["total"])]:
        counts = [f"{row[name]:,}" for name in ("read", "kept", "tokens", "windows")]
        sizes = [f"{row[name] / 1e6:,.1f}" for name in ("text_bytes", "bytes")]
        table.add_row(language, *counts, *sizes, f"{row['windows'] / all_windows:.1%}", listed(row["dropped"]))
    console.print(table)


def _empty_row() -> dict[str, Any]:
    return {"read": 0, "kept": 0, "dropped": Counter(), "tokens": 0, "windows": 0, "text_bytes": 0, "bytes": 0}


def _total(languages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    total = _empty_row()
    for row in languages.values():
        for name in ("read", "kept", "tokens", "windows", "text_bytes", "bytes"):
            total[name] += row[name]
        total["dropped"].update(row["dropped"])
    return {**total, "dropped": dict(sorted(total["dropped"].items()))}
