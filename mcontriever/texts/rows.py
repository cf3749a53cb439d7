"""Rows of named fields from every container that people keep text in, each with its place.

    for row in read_rows("corpus.jsonl.gz"):
        row.fields()["text"], row.place            "corpus.jsonl.gz:1"

JSON lines, one JSON array, TSV and CSV (each plain, .gz, .xz or .zst), Parquet, a folder that `datasets` saved, a
folder in the hub's layout, or a hub data set (hub:ORGANISATION/NAME). Only the current rows are in memory.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mcontriever.errors import DataError
from mcontriever.texts.hub_datasets import is_saved_dataset, load_hub_dataset, load_saved_dataset, read_dataset
from mcontriever.texts.json_array import is_json_array, read_json_array
from mcontriever.texts.json_lines import json_lines, json_object
from mcontriever.texts.locations import is_remote, local_path, no_such_file, plain_suffix
from mcontriever.texts.tables import read_columns_by_number, read_parquet, read_table

HUB_PREFIX = "hub:"
KINDS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".tsv": "tsv",
    ".csv": "csv",
    ".parquet": "parquet",
}


class Row(NamedTuple):
    """A JSON line is decoded when its fields are asked for, so that rows can be skipped quickly."""

    source: str
    number: int
    content: bytes | Mapping[str, Any]

    @property
    def place(self) -> str:
        return f"{self.source}:{self.number}"

    def fields(self) -> Mapping[str, Any]:
        return json_object(self.content, self.place) if isinstance(self.content, bytes) else self.content


def read_rows(
    source: str,
    *,
    kind: str | None = None,
    subset: str | None = None,
    split: str = "train",
    columns_by_number: bool = False,
) -> Iterator[Row]:
    """All rows of one file, folder or data set, in order. `kind` is known from the name unless it is given."""
    kind = kind or kind_of(source)
    name = source.removeprefix(HUB_PREFIX)
    if kind == "hub":
        rows: Iterator[Any] = read_dataset(load_hub_dataset(name, subset, split, streaming=True), name)
    elif kind == "saved":
        rows = read_dataset(load_saved_dataset(Path(name), split), name)
    elif kind == "parquet":
        rows = read_parquet(source)
    elif kind == "tsv" and columns_by_number:
        rows = read_columns_by_number(source)
    elif kind in ("tsv", "csv"):
        rows = read_table(source, "\t" if kind == "tsv" else ",")
    elif plain_suffix(source) not in (".jsonl", ".ndjson") and source != "-" and is_json_array(source):
        rows = read_json_array(source)
    else:
        rows = json_lines(source)
    return (Row(name, number, content) for number, content in rows)


def kind_of(source: str) -> str:
    """By its name; a file whose suffix says nothing is taken for JSON. A file that is not there is a DataError."""
    if source.startswith(HUB_PREFIX):
        return "hub"
    if source != "-" and not is_remote(source):
        if local_path(source).is_dir():
            return "saved" if is_saved_dataset(local_path(source)) else "hub"
        if not local_path(source).is_file():
            raise no_such_file(source)
    return KINDS.get(plain_suffix(source), "jsonl")


def kind_by_suffix(source: str) -> str:
    """Like `kind_of`, but a suffix that says nothing is a DataError."""
    if plain_suffix(source) not in KINDS:
        raise DataError(
            f"{Path(source).name} ends in none of {', '.join(KINDS)}",
            where=source,
            fix="rename it, or convert it to JSON lines (.gz, .xz and .zst may follow)",
        )
    return KINDS[plain_suffix(source)]
