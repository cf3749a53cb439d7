"""Corpora to embed, read as documents in a fixed order: JSON lines, TSV, Parquet, BEIR folders, hub datasets.

JSON lines and TSV may be .gz, .xz or .zst. A folder is a BEIR folder (corpus.jsonl...) or holds files of one kind.
`hub:NAME` is a dataset of the hub, or a folder laid out like one.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mcontriever.errors import DataError
from mcontriever.records import Document, decoded, document_of, field_names, json_object
from mcontriever.streams import expand_paths, is_remote, open_bytes, read_lines, require_host

SUFFIX_KINDS = {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".tsv": "tsv", ".parquet": "parquet"}
PACKED_SUFFIXES = (".gz", ".xz", ".zst")
HUB_PREFIX = "hub:"
ARROW_BATCH_ROWS = 1024
OFFLINE_WAY = "load the dataset once where there is a network, or give its files' local paths"


@dataclass(frozen=True)
class Corpus:
    """Files of one kind and how to read them. `language` is for documents that name none."""

    path: str
    kind: str
    files: tuple[str, ...]
    fields: Mapping[str, str]
    language: str = ""
    subset: str | None = None
    split: str = "train"

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        fields: Mapping[str, str] | None = None,
        language: str = "",
        subset: str | None = None,
        split: str = "train",
    ) -> "Corpus":
        path = str(path)
        field_names(dict(fields or {}))
        if path.startswith(HUB_PREFIX):
            return cls(path, "hub", (path.removeprefix(HUB_PREFIX),), dict(fields or {}), language, subset, split)
        files = _files_of(path)
        kinds = {_kind_of(file) for file in files}
        if len(kinds) > 1:
            raise DataError(f"files of several kinds: {', '.join(sorted(kinds))}", where=path, fix="give one kind")
        return cls(path, kinds.pop(), tuple(files), dict(fields or {}), language)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Corpus":
        return cls(**{**description, "files": tuple(description["files"])})

    def description(self) -> dict[str, Any]:
        """What a store records, so that a shard can be made again. Local paths become absolute."""
        files = [
            str(Path(file).resolve()) if self.kind != "hub" and not is_remote(file) else file for file in self.files
        ]
        return {**asdict(self), "files": files}

    def state(self) -> list[list[Any]]:
        """What tells, without reading them, that the files are as they were: size and time, or the hub's own mark."""
        if self.kind == "hub":
            return [[self.path, _hub_dataset(self)._fingerprint]]
        return [_file_state(file) for file in self.description()["files"]]

    def documents(self) -> Iterator[tuple[str, Document]]:
        """(place, document) in the corpus's order."""
        names = field_names(dict(self.fields))
        for place, raw in self._raw_records():
            yield place, self._document(raw, names, place)

    def ranges(self, bounds: Sequence[tuple[int, int]]) -> Iterator[list[Document]]:
        """The documents of each (start, stop), in one pass; what lies between is passed over unparsed."""
        names = field_names(dict(self.fields))
        records = enumerate(self._raw_records())
        for start, stop in bounds:
            documents = []
            for number, (place, raw) in records:
                if number >= start:
                    documents.append(self._document(raw, names, place))
                if number + 1 == stop:
                    break
            if len(documents) != stop - start:
                raise DataError(
                    f"the corpus ended early: documents {start:,} to {stop:,} were expected",
                    where=self.path,
                    fix="restore the corpus as it was, or embed it into another store",
                )
            yield documents

    def _document(self, raw: bytes | Mapping[str, object], names: dict[str, list[str]], place: str) -> Document:
        document = document_of(json_object(raw, place) if isinstance(raw, bytes) else raw, names, place)
        if self.language and not document.language:
            return Document(document.id, document.text, document.title, self.language)
        return document

    def _raw_records(self) -> Iterator[tuple[str, bytes | Mapping[str, object]]]:
        for file in self.files:
            if self.kind == "jsonl":
                yield from ((f"{file}:{number}", line) for number, line in read_lines(file) if line.strip())
            elif self.kind == "tsv":
                yield from _numbered_tsv_rows(file) if _by_number(self.fields) else _tsv_rows(file)
            else:
                tables = _hub_tables(self) if self.kind == "hub" else _parquet_tables(file)
                rows = (row for table in tables for row in table.to_pylist())
                yield from ((f"{file}:row {number}", row) for number, row in enumerate(rows))


def _files_of(path: str) -> list[str]:
    if is_remote(path) or not os.path.isdir(path):
        files = [file for file, _ in expand_paths([path])]
        for file in files:
            if not is_remote(file) and not os.path.isfile(file):
                raise DataError("no such file", where=file, fix="check the path of the corpus")
        return files
    names = sorted(os.listdir(path))
    beir = [name for name in names if name in {"corpus.jsonl" + suffix for suffix in ("", *PACKED_SUFFIXES)}]
    chosen = beir[:1] or [name for name in names if _suffix_of(name) in SUFFIX_KINDS]
    if not chosen:
        raise DataError(
            "no corpus.jsonl, and no JSON lines, TSV or Parquet file", where=path, fix="give a file, or another folder"
        )
    return [os.path.join(path, name) for name in chosen]


def _kind_of(file: str) -> str:
    if _suffix_of(file) not in SUFFIX_KINDS:
        known = ", ".join(SUFFIX_KINDS)
        raise DataError(
            f"{os.path.basename(file)} ends in none of {known}",
            where=file,
            fix="rename it, or convert it to JSON lines (.gz, .xz and .zst may follow)",
        )
    return SUFFIX_KINDS[_suffix_of(file)]


def _suffix_of(file: str) -> str:
    stem, suffix = os.path.splitext(file)
    return os.path.splitext(stem)[1] if suffix in PACKED_SUFFIXES else suffix


def _tsv_rows(file: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Rows under a header line, quoted as spreadsheets do (DPR's psgs_w100.tsv is written so)."""
    csv.field_size_limit(1 << 26)
    lines = (decoded(line, f"{file}:{number}") for number, line in read_lines(file))
    reader = csv.reader(lines, delimiter="\t", strict=True)
    header = next(reader, [])
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            fix = "mend the quotes; a file without header and quotes is read by column: --fields id=1 --fields text=2"
            raise DataError(f"the quotes do not match: {error}", where=f"{file}:{reader.line_num}", fix=fix) from error
        if row is None:
            return
        place = f"{file}:{reader.line_num}"
        if len(row) != len(header):
            raise DataError(f"{len(row)} columns under a header of {len(header)}", where=place, fix="mend the line")
        yield place, dict(zip(header, row, strict=True))


def _by_number(fields: Mapping[str, str]) -> bool:
    """fields id=1 text=2: a file without header and without quotes, as MS MARCO's collection.tsv is."""
    return bool(fields) and all(name.isdigit() for name in fields.values())


def _numbered_tsv_rows(file: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in read_lines(file):
        columns = decoded(line, f"{file}:{number}").rstrip("\r").split("\t")
        if line.strip():
            yield f"{file}:{number}", {str(place): value for place, value in enumerate(columns, start=1)}


def _parquet_tables(file: str) -> Iterable[Any]:
    import pyarrow
    from pyarrow import parquet

    with open_bytes(file) as stream:
        try:
            yield from parquet.ParquetFile(stream).iter_batches(ARROW_BATCH_ROWS)
        except pyarrow.ArrowInvalid as error:
            raise DataError(f"not a whole Parquet file: {error}", where=file, fix="restore or rewrite it") from error


def _file_state(file: str) -> list[Any]:
    if not is_remote(file):
        stat = os.stat(file)
        return [file, stat.st_size, stat.st_mtime_ns]
    import fsspec

    file_system, path = fsspec.core.url_to_fs(file)
    info = file_system.info(path)
    return [file, info.get("size"), str(info.get("ETag") or info.get("LastModified") or info.get("mtime"))]


def _hub_tables(corpus: Corpus) -> Iterable[Any]:
    yield from _hub_dataset(corpus).with_format("arrow").iter(ARROW_BATCH_ROWS)


def _hub_dataset(corpus: Corpus) -> Any:
    import datasets

    name = corpus.files[0]
    if not os.path.isdir(name) and not datasets.config.HF_HUB_OFFLINE:
        require_host("huggingface.co", OFFLINE_WAY)
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, corpus.subset, split=corpus.split)
    except (ValueError, OSError) as error:
        raise DataError(f"the dataset cannot be loaded: {error}", where=corpus.path, fix=OFFLINE_WAY) from error
