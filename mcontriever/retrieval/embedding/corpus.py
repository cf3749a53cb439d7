"""Corpora to embed, read as documents in a fixed order, from every container that `texts/rows.py` reads.

A folder is a BEIR folder (corpus.jsonl...), a saved data set, or holds files of one kind. `hub:NAME` is a data set of
the hub, or a folder in the hub's layout.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mcontriever.errors import DataError
from mcontriever.shown_text import stored_without_credentials
from mcontriever.texts.documents import Document, FieldNames, document_of, field_names
from mcontriever.texts.hub_datasets import is_saved_dataset, load_hub_dataset, read_dataset
from mcontriever.texts.locations import PACKED_SUFFIXES, expand_paths, file_state, is_remote, no_such_file, plain_suffix
from mcontriever.texts.rows import HUB_PREFIX, KINDS, Row, kind_by_suffix, read_rows
from mcontriever.texts.tables import by_number


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
        path, fields = str(path), dict(fields or {})
        field_names(fields)
        if path.startswith(HUB_PREFIX):
            return cls(path, "hub", (path.removeprefix(HUB_PREFIX),), fields, language, subset, split)
        if is_saved_dataset(Path(path)):
            return cls(path, "saved", (path,), fields, language, None, split)
        files = _files_of(path)
        kinds = {kind_by_suffix(file) for file in files}
        if len(kinds) > 1:
            raise DataError(f"files of several kinds: {', '.join(sorted(kinds))}", where=path, fix="give one kind")
        return cls(path, kinds.pop(), tuple(files), fields, language)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Corpus":
        return cls(**{**description, "files": tuple(description["files"])})

    def description(self) -> dict[str, Any]:
        """What a store records, so that a shard can be made again: absolute paths, addresses without passwords."""
        is_local = [self.kind != "hub" and not is_remote(file) for file in self.files]
        files = [str(Path(file).resolve()) if local else file for file, local in zip(self.files, is_local, strict=True)]
        described: dict[str, Any] = stored_without_credentials({**asdict(self), "files": files})
        return described

    def state(self) -> list[list[Any]]:
        """What tells, without reading them, that the files are as they were: size and time, or the hub's own mark."""
        if self.kind == "hub":
            return [[self.path, self._hub_dataset()._fingerprint]]
        files = [file if is_remote(file) else str(Path(file).resolve()) for file in self.files]
        if self.kind == "saved":
            files = sorted(str(file) for file in Path(files[0]).rglob("*") if file.is_file())
        states: list[list[Any]] = stored_without_credentials([file_state(file) for file in files])
        return states

    def documents(self) -> Iterator[tuple[str, Document]]:
        """(place, document) in the corpus's order."""
        names = field_names(self.fields)
        for row in self._rows():
            yield row.place, self._document(row, names)

    def ranges(self, bounds: Sequence[tuple[int, int]]) -> Iterator[list[Document]]:
        """The documents of each (start, stop), in one pass; the rows between them are skipped without decoding."""
        names = field_names(self.fields)
        rows = enumerate(self._rows())
        for start, stop in bounds:
            documents = []
            for number, row in rows:
                if number >= start:
                    documents.append(self._document(row, names))
                if number + 1 == stop:
                    break
            if len(documents) != stop - start:
                raise DataError(
                    f"the corpus ended early: documents {start:,} to {stop:,} were expected",
                    where=self.path,
                    fix="restore the corpus as it was, or embed it into another store",
                )
            yield documents

    def _document(self, row: Row, names: FieldNames) -> Document:
        document = document_of(row.fields(), names, row.place)
        if self.language and not document.language:
            return Document(document.id, document.text, document.title, self.language)
        return document

    def _rows(self) -> Iterator[Row]:
        if self.kind == "hub":
            rows = read_dataset(self._hub_dataset(), self.files[0])
            yield from (Row(self.files[0], number, fields) for number, fields in rows)
            return
        for file in self.files:
            yield from read_rows(file, kind=self.kind, split=self.split, columns_by_number=by_number(self.fields))

    def _hub_dataset(self) -> Any:
        return load_hub_dataset(self.files[0], self.subset, self.split, streaming=False)


def _files_of(path: str) -> list[str]:
    if is_remote(path) or not os.path.isdir(path):
        files = [file for file, _ in expand_paths([path])]
        for file in files:
            if not is_remote(file) and not os.path.isfile(file):
                raise no_such_file(file)
        return files
    names = sorted(os.listdir(path))
    beir = [name for name in names if name in {"corpus.jsonl" + suffix for suffix in ("", *PACKED_SUFFIXES)}]
    chosen = beir[:1] or [name for name in names if plain_suffix(name) in KINDS]
    if not chosen:
        known = ", ".join(KINDS)
        raise DataError(f"no corpus.jsonl, and no file that ends in {known}", where=path, fix="give a file or folder")
    return [os.path.join(path, name) for name in chosen]
