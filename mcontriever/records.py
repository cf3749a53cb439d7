"""What flows through the package: documents, queries, training examples and hits, and the BEIR folder layout."""

import codecs
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from mcontriever.errors import DataError
from mcontriever.streams import read_lines

SHOWN_PLACES = 5


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    text: str
    title: str = ""
    language: str = ""

    @property
    def full_text(self) -> str:
        """The title in front of the text, as it is embedded and searched."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


@dataclass(frozen=True, slots=True)
class Query:
    id: str
    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A question with the passages that answer it and passages that do not.

    `negatives` are hard ones; `random_negatives` only came along. The scores, where there are any, are a teacher's:
    one for each positive and one for each negative.
    """

    query: str
    positives: tuple[Document, ...]
    negatives: tuple[Document, ...] = ()
    id: str = ""
    language: str = ""
    positive_scores: tuple[float, ...] = ()
    negative_scores: tuple[float, ...] = ()
    random_negatives: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    id: str
    score: float
    rank: int
    language: str = ""
    title: str = ""
    text: str = ""
    parts: dict[str, float] = field(default_factory=dict)


def read_json_objects(path: str | Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (line number, object) of a JSON lines file ("-" is standard input); a bad line is a DataError."""
    lines = enumerate(sys.stdin.buffer, start=1) if str(path) == "-" else read_lines(str(path))
    for number, line in lines:
        if not line.strip():
            continue
        yield number, json_object(line, f"{path}:{number}")


def json_object(line: bytes, where: str) -> dict[str, object]:
    """The object on a line of JSON; anything else is a DataError."""
    try:
        record = orjson.loads(line.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        decoded(line, where)
        raise DataError(f"not a JSON line: {error}", where=where, fix="mend the line") from error
    if not isinstance(record, dict):
        raise DataError(f"expected a JSON object, found {type(record).__name__}", where=where, fix="mend the line")
    return record


def decoded(line: bytes, where: str) -> str:
    """A line as text, less a byte order mark; one that is not UTF-8 is a DataError."""
    try:
        return line.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8: byte {line[error.start]:#x} at {error.start + 1}",
            where=where,
            fix="convert the file: iconv -f ENCODING -t UTF-8 (Windows often writes UTF-16 or CP1252)",
        ) from error


def read_documents(path: str | Path, fields: dict[str, str] | None = None) -> Iterator[Document]:
    """Documents from JSON lines. `fields` maps id, text, title, language to the file's own names.

    Without it, `_id` or `id`, `text`, `title` and `language` or `lang` are taken.
    """
    names = field_names(fields)
    for number, record in read_json_objects(path):
        yield document_of(record, names, where=f"{path}:{number}")


def document_of(record: Mapping[str, object], names: dict[str, list[str]], where: str) -> Document:
    """One record as a document, by the names of `field_names`; a missing or odd field is a DataError."""
    identifier, text = _first(record, names["id"]), _first(record, names["text"])
    if identifier is None or text is None:
        missing = "id" if identifier is None else "text"
        raise DataError(
            f"no field {' or '.join(names[missing])}; the line has {', '.join(record)}",
            where=where,
            fix=f"name the field that holds the {missing}, for example --fields {missing}=NAME",
        )
    if isinstance(identifier, list | dict):
        raise DataError(
            f"the id is {type(identifier).__name__}, not a string",
            where=where,
            fix="mend the line, or name the field that holds the id: --fields id=NAME",
        )
    if not isinstance(text, str):
        raise DataError(
            f"the text is {type(text).__name__}, not a string",
            where=where,
            fix="mend the line, or name the field that holds the text: --fields text=NAME",
        )
    title, language = _first(record, names["title"]), _first(record, names["language"])
    return Document(str(identifier), text, str(title or ""), str(language or ""))


def read_queries(path: str | Path, fields: dict[str, str] | None = None) -> Iterator[Query]:
    for document in read_documents(path, fields):
        yield Query(document.id, document.text, document.language)


def write_json_lines(path: str | Path, records: Iterable[dict[str, object]]) -> int:
    """Write records one per line, atomically; returns how many."""
    from mcontriever.disk import atomic_path

    count = 0
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for record in records:
            file.write(orjson.dumps(record) + b"\n")
            count += 1
    return count


@dataclass(frozen=True)
class BeirFolder:
    """A retrieval set on disk: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (each .gz, .xz or .zst or plain)."""

    folder: Path

    @classmethod
    def load(cls, folder: str | Path) -> "BeirFolder":
        beir = cls(Path(folder))
        if not beir.folder.is_dir():
            raise DataError("no such folder", where=folder, fix="give a folder with corpus, queries and qrels/")
        for name in ("corpus.jsonl", "queries.jsonl"):
            beir.path_of(name)
        return beir

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def documents(self) -> Iterator[Document]:
        return read_documents(self.path_of("corpus.jsonl"))

    def queries(self) -> Iterator[Query]:
        return read_queries(self.path_of("queries.jsonl"))

    def relevance(self, split: str = "test") -> dict[str, dict[str, int]]:
        """query id -> {document id: grade}, in file order."""
        relevance: dict[str, dict[str, int]] = {}
        for _, query_id, document_id, grade in self.judgements(split):
            relevance.setdefault(query_id, {})[document_id] = grade
        return relevance

    def judgements(self, split: str) -> Iterator[tuple[str, str, str, int]]:
        """("file:line", query id, document id, grade); a line that cannot be read is a DataError."""
        path = self.path_of(f"qrels/{split}.tsv")
        for number, raw in read_lines(str(path)):
            line = raw.decode("utf-8", errors="replace").rstrip("\r")
            if not line or (number == 1 and line.split("\t")[-1] == "score"):
                continue
            parts = line.split("\t")
            try:
                yield f"{path}:{number}", parts[0], parts[1], int(parts[2])
            except (IndexError, ValueError) as error:
                raise DataError(
                    f"expected query-id, corpus-id and a whole number by tabs, found {line!r}",
                    where=f"{path}:{number}",
                    fix="mend the line",
                ) from error

    def path_of(self, name: str) -> Path:
        for suffix in ("", ".gz", ".xz", ".zst"):
            path = self.folder / (name + suffix)
            if path.is_file():
                return path
        raise DataError(
            f"no file {name} (or {name}.gz, .xz, .zst)",
            where=self.folder,
            fix="a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/test.tsv",
        )


def field_names(fields: dict[str, str] | None) -> dict[str, list[str]]:
    names = {"id": ["_id", "id"], "text": ["text"], "title": ["title"], "language": ["language", "lang"]}
    for ours, theirs in (fields or {}).items():
        if ours not in names:
            raise DataError(f"unknown field {ours}={theirs}", fix=f"the fields are {', '.join(names)}")
        names[ours] = [theirs]
    return names


def _first(record: Mapping[str, object], names: list[str]) -> object | None:
    return next((record[name] for name in names if record.get(name) is not None), None)
