"""JSON lines: one object a line, read with the place of every mistake, and written atomically."""

import codecs
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from mcontriever.errors import DataError
from mcontriever.texts.streams import read_lines


def read_json_objects(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a file ("-" is standard input); a bad line is a DataError."""
    for number, line in json_lines(str(path)):
        yield number, json_object(line, f"{path}:{number}")


def json_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, not decoded yet."""
    lines = enumerate(sys.stdin.buffer, start=1) if path == "-" else read_lines(path)
    return ((number, line) for number, line in lines if line and not line.isspace())


def json_object(line: bytes, where: str) -> dict[str, Any]:
    """The object on a line of JSON; anything else is a DataError."""
    try:
        record = orjson.loads(line.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        decoded(line, where)
        raise DataError(f"not a JSON line: {error}", where=where, fix="fix the line") from error
    return checked_object(record, where)


def checked_object(record: object, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise DataError(f"expected a JSON object, found {type(record).__name__}", where=where, fix="fix the line")
    return record


def decoded(line: bytes, where: str) -> str:
    """A line as text without a byte order mark; one that is not UTF-8 is a DataError."""
    try:
        return line.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8: byte {line[error.start]:#x} at {error.start + 1}",
            where=where,
            fix="convert the file: iconv -f ENCODING -t UTF-8 (Windows often writes UTF-16 or CP1252)",
        ) from error


def write_json_lines(path: str | Path, records: Iterable[dict[str, object]]) -> int:
    """Write records one per line, atomically; returns how many."""
    from mcontriever.disk import atomic_path

    count = 0
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for record in records:
            file.write(orjson.dumps(record) + b"\n")
            count += 1
    return count
