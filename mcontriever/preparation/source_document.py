"""A document as its source has it, read from a line or a row, or the damage found in its place.

msgspec decodes only the fields that are asked for, in two thirds of orjson's time. A line with anything unexpected is
decoded again, slowly, to say what is wrong.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from mcontriever.errors import DataError
from mcontriever.texts.documents import Document
from mcontriever.texts.json_lines import json_object

Fields = Mapping[str, str | None]
_TYPES: dict[str, Any] = {
    "text": str,
    "title": str | None,
    "language": str | None,
    "language_score": float | None,
    "perplexity": float | None,
    "bucket": str | None,
}


class SourceDocument(Document, frozen=True, kw_only=True):
    """With all that filters may ask for. Sources are read by line, so the id is empty."""

    id: str = ""
    line: int
    language_score: float | None = None
    perplexity: float | None = None
    bucket: str | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that gives no document; or, with `whole_file`, the line after which a file gives nothing."""

    reason: str
    line: int
    what: str
    whole_file: bool = False


def json_line_reader(fields: Fields) -> Callable[[int, bytes], SourceDocument | Damage]:
    """A function of (line number, line). `fields` maps our names to the source's."""
    named = {ours: theirs for ours, theirs in fields.items() if theirs is not None}
    if len(set(named.values())) < len(named):
        return lambda number, line: _read_slowly(number, line, fields)
    columns = [(ours, _TYPES[ours], *(() if ours == "text" else (None,))) for ours in named]
    missing = dict.fromkeys(_TYPES.keys() - named.keys())
    record_type = msgspec.defstruct("Record", columns, rename=named, namespace=missing, gc=False)
    decode = msgspec.json.Decoder(record_type).decode

    def read(number: int, line: bytes) -> SourceDocument | Damage:
        try:
            record: Any = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _read_slowly(number, line, fields)
        return SourceDocument(
            line=number,
            text=record.text,
            title=record.title or "",
            language=record.language or "",
            language_score=record.language_score,
            perplexity=record.perplexity,
            bucket=record.bucket,
        )

    return read


def plain_document(number: int, line: bytes) -> SourceDocument | Damage:
    try:
        return SourceDocument(line=number, text=line.decode())
    except UnicodeDecodeError as error:
        return Damage("undecodable", number, f"not UTF-8: byte {line[error.start]:#x}")


def _read_slowly(number: int, line: bytes, fields: Fields) -> SourceDocument | Damage:
    try:
        return document_of_row(number, json_object(line, ""), fields)
    except DataError as error:
        undecodable = isinstance(error.__cause__, UnicodeDecodeError)
        return Damage("undecodable" if undecodable else "malformed", number, error.what)


def document_of_row(number: int, row: Mapping[str, Any], fields: Fields) -> SourceDocument | Damage:
    text = row.get(cast(str, fields["text"]), ...)
    if text is ...:
        found = ", ".join(map(str, itertools.islice(row, 8)))
        return Damage("malformed", number, f"no field {fields['text']!r}; the row has {found}")
    if not isinstance(text, str):
        if text is not None:
            return Damage("malformed", number, f"field {fields['text']!r} must be a string, is {type(text).__name__}")
        text = ""
    value = {ours: row.get(theirs) if theirs else None for ours, theirs in fields.items()}
    for name in ("title", "language"):
        if value[name] is not None and not isinstance(value[name], str):
            found = type(value[name]).__name__
            return Damage("malformed", number, f"field {fields[name]!r} must be a string, is {found}")
    return SourceDocument(
        line=number,
        text=text,
        title=_string(value["title"]) or "",
        language=_string(value["language"]) or "",
        language_score=_number(value["language_score"]),
        perplexity=_number(value["perplexity"]),
        bucket=_string(value["bucket"]),
    )


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
