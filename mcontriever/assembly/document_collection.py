"""A store that other libraries write to and search: documents by id, each with whatever else is known of it.

What a store has no column for is kept beside it, in STORE/indexes/metadata/NUMBER.jsonl: a file for each writing, of
which the last that names an id counts.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mcontriever.disk import write_bytes
from mcontriever.encoder import Encoder
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest, Mode
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import derived, store_edits, store_runs
from mcontriever.retrieval.store.deleted_rows import find_rows
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_manifest import MANIFEST, find_manifest
from mcontriever.shipped import DEFAULT_MODEL
from mcontriever.texts.documents import Document, Hit

Metadata = dict[str, Any]


class DocumentCollection:
    """`model` is an encoder, or what `embed --model` takes; `options` are SearchOptions for every search."""

    def __init__(self, folder: str | Path, model: "str | Encoder" = DEFAULT_MODEL, **options: Any) -> None:
        self.folder = Path(folder)
        self.encoder = model if isinstance(model, Encoder) else Encoder.load(model, precision="auto")
        self._model = model if isinstance(model, str) else "(in memory)"
        self._options = options
        self._opened: tuple[tuple[int, int], Index] | None = None
        self._metadata: dict[str, Metadata] = {}
        self._metadata_files = 0

    def __len__(self) -> int:
        manifest = find_manifest(self.folder)
        return 0 if manifest is None else manifest.documents

    def write(self, documents: Sequence[Document], metadata: Sequence[Metadata]) -> None:
        """Add documents; a later document with the same id replaces an earlier one."""
        if not documents:
            return
        latest = {document.id: (document, own) for document, own in zip(documents, metadata, strict=True)}
        with tempfile.TemporaryDirectory(prefix="mcontriever-") as scratch:
            corpus = Path(scratch, "documents.jsonl")
            corpus.write_bytes(b"".join(_line(document) for document, _ in latest.values()))
            mode: Mode = "new" if find_manifest(self.folder) is None else "replace"
            embed(EmbeddingRequest(str(corpus), self.folder, model=self._model, mode=mode), encoder=self.encoder)
        self._write_metadata({identifier: own for identifier, (_, own) in latest.items()})

    def delete(self, identifiers: Sequence[str]) -> None:
        """The ids that exist."""
        if find_manifest(self.folder) is not None:
            with store_runs.writing(self.folder):
                store_edits.delete(self.folder, identifiers, missing_ok=True)

    def get(self, identifiers: Sequence[str]) -> list[tuple[Document, Metadata]]:
        """The documents that exist, in this order; for a document in passages, the first passage."""
        index = self._index()
        if index is None:
            return []
        rows, _ = find_rows(index.store, identifiers)
        found: dict[str, Document] = {}
        for row in index.store.rows_shown(np.sort(rows), ["id", "language", "title", "text"]):
            found.setdefault(row["id"], Document(**row))
        return [(found[one], self._metadata.get(one, {})) for one in identifiers if one in found]

    def search(self, query: str, k: int, **options: Any) -> list[tuple[Hit, Metadata]]:
        index = self._index()
        if index is None or not len(self) or not query.strip():
            return []
        hits = index.search(query, k=k, **{**self._options, **options})
        return [(hit, self._metadata.get(hit.id, {})) for hit in hits]

    def ids(self) -> list[str]:
        """Of all documents, in order."""
        index = self._index()
        if index is None:
            return []
        rows = np.setdiff1d(np.arange(len(index.store)), index.store.deleted_rows)
        return list(dict.fromkeys(row["id"] for row in index.store.rows_shown(rows, ["id"])))

    def ids_where(self, **wanted: Any) -> list[str]:
        """Of documents whose metadata has these values."""
        self._read_metadata()
        return [
            identifier
            for identifier, own in self._metadata.items()
            if all(own.get(name) == value for name, value in wanted.items())
        ]

    def _index(self) -> Index | None:
        """Opened again when the store has changed, whichever process changed it."""
        try:
            state = (self.folder / MANIFEST).stat()
        except FileNotFoundError:
            return None
        mark = (state.st_mtime_ns, state.st_ino)
        if self._opened is None or self._opened[0] != mark:
            self._opened = mark, Index(EmbeddingStore.open(self.folder), encoder=self.encoder)
        self._read_metadata()
        return self._opened[1]

    def _metadata_file(self, number: int) -> Path:
        return self.folder / derived.FOLDER / "metadata" / f"{number:05}.jsonl"

    def _write_metadata(self, of_id: Mapping[str, Metadata]) -> None:
        self._read_metadata()
        lines = b"".join(orjson.dumps([identifier, own]) + b"\n" for identifier, own in of_id.items())
        write_bytes(self._metadata_file(self._metadata_files), lines)

    def _read_metadata(self) -> None:
        while (path := self._metadata_file(self._metadata_files)).exists():
            self._metadata.update(orjson.loads(line) for line in path.read_bytes().splitlines())
            self._metadata_files += 1


def _line(document: Document) -> bytes:
    record = {"id": document.id, "text": document.text, "title": document.title, "language": document.language}
    return orjson.dumps(record) + b"\n"
