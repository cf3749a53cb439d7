"""A document as its source has it, read from a line or a record; or the damage that is there instead.

msgspec decodes only the fields that are asked for, in two thirds of orjson's time. A line with anything odd in it is
decoded again, slowly, to say what is odd.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from mcontriever.errors import DataError
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


@dataclass(slots=True)
class Text:
    """A document without an id, with all that filters may ask for."""

    line: int
    text: str
    title: str = ""
    language: str | None = None
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


def json_line_reader(fields: Fields) -> Callable[[int, bytes], Text | Damage]:
    """A function of (line number, line). `fields` maps our names to the source's."""
    named = {ours: theirs for ours, theirs in fields.items() if theirs is not None}
    if len(set(named.values())) < len(named):
        return lambda number, line: _read_slowly(number, line, fields)
    columns = [(ours, _TYPES[ours], *(() if ours == "text" else (None,))) for ours in named]
    missing = dict.fromkeys(_TYPES.keys() - named.keys())
    record_type = msgspec.defstruct("Record", columns, rename=named, namespace=missing, gc=False)
    decode = msgspec.json.Decoder(record_type).decode

    def read(number: int, line: bytes) -> Text | Damage:
        try:
            record: Any = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _read_slowly(number, line, fields)
        return Text(
            number,
            record.text,
            record.title or "",
            record.language,
            record.language_score,
            record.perplexity,
            record.bucket,
        )

    return read


def _read_slowly(number: int, line: bytes, fields: Fields) -> Text | Damage:
    try:
        record = json_object(line, "")
    except DataError as error:
        return Damage(
            "undecodable" if isinstance(error.__cause__, UnicodeDecodeError) else "malformed", number, error.what
        )
    return text_of_record(number, record, fields)


def plain_text(number: int, line: bytes) -> Text | Damage:
    try:
        return Text(number, line.decode())
    except UnicodeDecodeError as error:
        return Damage("undecodable", number, f"not UTF-8: byte {line[error.start]:#x}")


def text_of_record(number: int, record: Mapping[str, Any], fields: Fields) -> Text | Damage:
    get = record.get
    text = get(cast(str, fields["text"]), ...)
    if text is ...:
        found = ", ".join(map(str, itertools.islice(record, 8)))
        return Damage("malformed", number, f"no field {fields['text']!r}; the row has {found}")
    if not isinstance(text, str):
        if text is not None:
            return Damage("malformed", number, f"field {fields['text']!r} must be a string, is {type(text).__name__}")
        text = ""
    return Text(
        line=number,
        text=text,
        title=_text_or(get(fields["title"]), "") if fields["title"] else "",
        language=_text_or(get(fields["language"]), None) if fields["language"] else None,
        language_score=_number(get(fields["language_score"])) if fields["language_score"] else None,
        perplexity=_number(get(fields["perplexity"])) if fields["perplexity"] else None,
        bucket=_text_or(get(fields["bucket"]), None) if fields["bucket"] else None,
    )


def _text_or(value: object, default: Any) -> Any:
    return value if isinstance(value, str) else default


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
