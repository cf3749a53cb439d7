"""What is searched, asked and found: Document, Query and Hit, and how documents are read from rows of any naming."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mcontriever.errors import DataError
from mcontriever.texts.rows import read_rows


class Document(msgspec.Struct, frozen=True):
    """`language_detected`: its language was not given but detected (`language_detection.py`).

    `text_language` is set where the text is plainly in another language than the one that is named.
    """

    id: str
    text: str
    title: str = ""
    language: str = ""
    language_detected: bool = False
    text_language: str = ""

    @property
    def full_text(self) -> str:
        """The title and the text, as they are embedded and searched."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


class Query(msgspec.Struct, frozen=True):
    id: str
    text: str
    language: str = ""


SHOWN_DIGITS = 6


class Hit(Document, frozen=True, kw_only=True):
    """A document that was found; `text` is its best passage. `parts` are the scores that were combined.

    `confidence`, 0 to 1, comes with calibrated search: how probable it is that the hit answers at all.
    """

    score: float
    rank: int
    parts: dict[str, float] = {}
    confidence: float | None = None

    def record(self, explain: bool) -> dict[str, object]:
        """As JSON shows it: on the command line and from the server."""
        record: dict[str, object] = {
            "rank": self.rank,
            "id": self.id,
            "score": round(self.score, SHOWN_DIGITS),
            "language": self.language,
            "title": self.title,
            "text": self.text,
        }
        if self.confidence is not None:
            record["confidence"] = round(self.confidence, SHOWN_DIGITS)
        return {**record, "parts": self.parts} if explain else record


FieldNames = Mapping[str, Sequence[str]]
NAMES: FieldNames = {
    "id": ("_id", "id", "docid", "passage_id", "pid"),
    "text": ("text", "contents", "passage", "body"),
    "title": ("title",),
    "language": ("language", "lang"),
}


def read_documents(path: str | Path, fields: Mapping[str, str] | None = None) -> Iterator[Document]:
    """Documents of one file. `fields` maps id, text, title and language to the names in the file.

    Without it, the usual names are read (NAMES).
    """
    names = field_names(fields)
    for row in read_rows(str(path)):
        yield document_of(row.fields(), names, row.place)


def read_queries(path: str | Path, fields: Mapping[str, str] | None = None) -> Iterator[Query]:
    for document in read_documents(path, fields):
        yield Query(document.id, document.text, document.language)


def field_names(fields: Mapping[str, str] | None) -> FieldNames:
    for ours, theirs in (fields or {}).items():
        if ours not in NAMES:
            raise DataError(f"unknown field {ours}={theirs}", fix=f"the fields are {', '.join(NAMES)}")
    return {**NAMES, **{ours: (theirs,) for ours, theirs in (fields or {}).items()}}


def document_of(record: Mapping[str, object], names: FieldNames, where: str) -> Document:
    """One row as a document, by the names of `field_names`; a missing or odd field is a DataError."""
    identifier, text = first_of(record, names["id"]), first_of(record, names["text"])
    if identifier is None or text is None:
        missing = "id" if identifier is None else "text"
        raise DataError(
            f"no field {' or '.join(names[missing])}; the row has {', '.join(record)}",
            where=where,
            fix=f"name the field that holds the {missing}, for example --fields {missing}=NAME",
        )
    if not isinstance(text, str):
        raise _wrong_type(text, "text", where)
    title, language = first_of(record, names["title"]), first_of(record, names["language"])
    for name, value in (("id", identifier), ("title", title), ("language", language)):
        if isinstance(value, list | dict):
            raise _wrong_type(value, name, where)
    if identifier == "":
        raise DataError("the id is empty", where=where, fix="give each document its own id")
    return Document(str(identifier), text, str(title or ""), str(language or ""))


def first_of(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these fields that has a value."""
    return next((record[name] for name in names if record.get(name) is not None), None)


def _wrong_type(value: object, name: str, where: str) -> DataError:
    return DataError(
        f"the {name} must be a string, is {type(value).__name__}",
        where=where,
        fix=f"fix the row, or name the field that holds the {name}: --fields {name}=NAME",
    )
