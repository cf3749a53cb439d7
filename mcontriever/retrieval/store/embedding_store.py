"""A store opened for reading: vectors from memory-mapped shards, documents from Parquet, and which rows are deleted.

Rows are numbered through all shards. Shapes: N rows of the store, R rows asked for, H dimensions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.errors import StoreError
from mcontriever.evidence_rule import OLDER_RULE, EvidenceRule
from mcontriever.npy_files import mapped, was_cut
from mcontriever.retrieval.store.opening_check import (
    REPAIR,
    check_documents,
    check_shards,
    read_deleted_rows,
    reading_parquet,
)
from mcontriever.retrieval.store.shard_files import ROWS_PER_GROUP, TEXT_LANGUAGE, from_stored, passages_schema
from mcontriever.retrieval.store.store_manifest import EncoderEntry, Manifest, ShardEntry, read_manifest

GROUPS_KEPT = 32


class EmbeddingStore:
    """Searches over vectors use `pieces` and `take`; hits use `rows_shown`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.starts = np.concatenate([[0], np.cumsum([shard.rows for shard in manifest.shards], dtype=np.int64)])
        self.deleted_rows = read_deleted_rows(folder, manifest)  # now: the next deletion removes the file
        self._group = lru_cache(maxsize=GROUPS_KEPT)(self._read_group)
        self._mapped: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        self._checked: set[int] = set()

    @classmethod
    def open(cls, folder: str | Path) -> "EmbeddingStore":
        folder = Path(folder)
        manifest = read_manifest(folder)
        check_shards(folder, manifest)
        return cls(folder, manifest)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def dimension(self) -> int:
        return self.manifest.layout.dimension

    @property
    def encoder(self) -> EncoderEntry | None:
        return self.manifest.layout.encoder

    @property
    def evidence_rule(self) -> EvidenceRule:
        return (self.encoder.evidence_rule if self.encoder else None) or OLDER_RULE

    @cached_property
    def live_N(self) -> np.ndarray | None:
        """True where a row may be found; None if all may."""
        if not len(self.deleted_rows):
            return None
        live = np.ones(len(self), dtype=bool)
        live[self.deleted_rows] = False
        return live

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Rows start to stop as float arrays (fp32, or fp16 as stored), split at shard borders."""
        for number in range(*self._shards_of(start, stop)):
            first = int(self.starts[number])
            vectors, scales = self._map(number)
            part = slice(max(start - first, 0), stop - first)
            yield from_stored(vectors[part], None if scales is None else scales[part])

    def take(self, rows_R: np.ndarray) -> np.ndarray:
        """These rows in fp32."""
        taken = np.empty((len(rows_R), self.dimension), dtype=np.float32)
        order = np.argsort(rows_R)
        bounds = np.searchsorted(rows_R[order], self.starts)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            chosen = order[bounds[number] : bounds[number + 1]]
            local = rows_R[chosen] - self.starts[number]
            vectors, scales = self._map(number)
            taken[chosen] = from_stored(np.take(vectors, local, axis=0), None if scales is None else scales[local])
        return taken

    @cached_property
    def languages(self) -> tuple[np.ndarray, list[str]]:
        """A code for each row, and the languages by code."""
        names = sorted({name for shard in self.manifest.shards for name in shard.languages})
        codes_N = np.empty(len(self), dtype=np.int32)
        for number in self._shard_range():
            codes_N[self.starts[number] : self.starts[number + 1]] = self._codes(number, "language", names)
        return codes_N, names

    @cached_property
    def text_languages(self) -> tuple[np.ndarray, list[str]]:
        """As `languages`, but rows that are plainly in another language than named count for that one."""
        codes_N, named = self.languages
        names = [*named, *sorted({name for shard in self.manifest.shards for name in shard.text_languages} - {*named})]
        codes_N = codes_N.copy()
        for number in self._shard_range():
            if self.manifest.shards[number].text_languages:
                part = codes_N[self.starts[number] : self.starts[number + 1]]
                codes = self._codes(number, TEXT_LANGUAGE, names)
                part[codes >= 0] = codes[codes >= 0]
        return codes_N, names

    def _codes(self, number: int, column: str, names: Sequence[str]) -> np.ndarray:
        """A shard's column of names as places in `names`; -1 where it has another."""
        found = self._column(number, column)
        if not len(found):
            return np.zeros(0, dtype=np.int32)
        code_of = {name: code for code, name in enumerate(names)}
        known = found.dictionary.to_pylist()  # also of languages whose rows were compacted away
        if column == TEXT_LANGUAGE:
            code_of[""] = -1
        codes = np.array([code_of.get(name, -1) for name in known], dtype=np.int32)
        return codes[_numbers(found.indices)]

    @cached_property
    def documents_N(self) -> np.ndarray | None:
        """The number of each row's document; None if every row is a document."""
        if self.manifest.layout.passage_words is None:
            return None
        parts = [_numbers(self._column(number, "part")) for number in self._shard_range()]
        return np.cumsum(np.concatenate([np.zeros(0, dtype=np.int32), *parts]) == 0) - 1

    def rows_shown(self, rows_R: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
        """What these rows are: id, language, part and, if the store keeps them, title and text."""
        unique, places_R = np.unique(np.asarray(rows_R, dtype=np.int64), return_inverse=True)
        shards = np.searchsorted(self.starts, unique, side="right") - 1
        read = self._read_groups if len(np.unique(unique // ROWS_PER_GROUP)) > GROUPS_KEPT else self._kept_groups
        shown: list[dict[str, Any]] = []
        for shard in np.unique(shards).tolist():
            local = unique[shards == shard] - int(self.starts[shard])
            groups, group_places = np.unique(local // ROWS_PER_GROUP, return_inverse=True)
            table = read(shard, groups.tolist(), tuple(columns))
            places = group_places * ROWS_PER_GROUP + local % ROWS_PER_GROUP  # all groups before the last are full
            shown.extend(table.take(_arrow(places)).to_pylist())
        return [shown[place] for place in places_R]

    def passages_of(self, rows_R: Sequence[int]) -> list[str]:
        """Title and text of these rows, as a cross-encoder reads them."""
        shown = self.rows_shown(np.array(rows_R, dtype=np.int64), ["title", "text"])
        return [f"{row['title']} {row['text']}".strip() for row in shown]

    def rows_with_hashes(self, hashes: np.ndarray) -> np.ndarray:
        """Rows whose id has one of these hashes. Hashes may collide, so compare the ids."""
        ordered, rows = self._hash_order
        return np.sort(rows[np.isin(ordered, hashes)])

    def text_batches(self, size: int) -> Iterator[tuple[list[str], list[str]]]:
        """Titles and texts of all rows in order."""
        for number in self._shard_range():
            with self._reading(number) as file:
                for batch in file.iter_batches(size, columns=["title", "text"]):
                    yield batch.column("title").to_pylist(), batch.column("text").to_pylist()

    def table(self, number: int) -> Any:
        """All columns of one shard's documents."""
        with self._reading(number) as file:
            return file.read()

    def arrays(self, number: int) -> dict[str, np.ndarray]:
        """One shard's vectors, and scales if it has them, as stored; empty for a store without vectors."""
        if self.encoder is None:
            return {}
        vectors, scales = self._map(number)
        return {"vectors": vectors} if scales is None else {"vectors": vectors, "scales": scales}

    @cached_property
    def _hash_order(self) -> tuple[np.ndarray, np.ndarray]:
        columns = [_numbers(self._column(number, "id_hash")) for number in self._shard_range()]
        hashes_N = np.concatenate([np.zeros(0, dtype=np.uint64), *columns])
        rows = np.argsort(hashes_N, kind="stable")
        return hashes_N[rows], rows

    def _read_groups(self, number: int, groups: Sequence[int], columns: tuple[str, ...]) -> Any:
        with self._reading(number) as file:
            return file.read_row_groups(groups, columns=list(columns))

    def _kept_groups(self, number: int, groups: Sequence[int], columns: tuple[str, ...]) -> Any:
        """The few groups with the hits of one query are kept for the next query."""
        import pyarrow

        return pyarrow.concat_tables([self._group(number, group, columns) for group in groups])

    def _read_group(self, number: int, group: int, columns: tuple[str, ...]) -> Any:
        return self._read_groups(number, [group], columns)

    def _column(self, number: int, name: str) -> Any:
        with self._reading(number) as file:
            column = file.read(columns=[name]).column(0).combine_chunks()
            if column.null_count:
                raise ValueError(f"the column {name} lacks {column.null_count:,} of its values")
            return column

    @contextmanager
    def _reading(self, number: int) -> Iterator[Any]:
        """One shard's documents."""
        from pyarrow import parquet

        shard = self.manifest.shards[number]
        path = self.folder / shard.documents_file
        self._check_not_compacted(path)
        with reading_parquet(path):
            file = parquet.ParquetFile(path)
            if number not in self._checked:
                check_documents(file, path, shard, self._schema)
                self._checked.add(number)
            yield file

    @cached_property
    def _schema(self) -> Any:
        return passages_schema(self.manifest.layout.keeps_text)

    def _map(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        if number not in self._mapped:
            shard = self.manifest.shards[number]
            scales = self._load(shard, "scales") if self.manifest.layout.dtype == "int8" else None
            self._mapped[number] = self._load(shard, "vectors"), scales
        return self._mapped[number]

    def _load(self, shard: ShardEntry, name: str) -> np.ndarray:
        path = self.folder / _file_name(name, shard)
        try:
            return mapped(path, mode="c", fix=REPAIR)  # copy-on-write, because torch warns about read-only arrays
        except StoreError:
            self._check_not_compacted(path)
            raise

    def _check_not_compacted(self, path: Path) -> None:
        if not path.exists() and read_manifest(self.folder).generation != self.manifest.generation:
            raise StoreError("the store was compacted since it was opened", where=self.folder, fix="open it again")

    def cut_shard(self) -> str | None:
        """The name of a mapped file that somebody has cut since."""
        for number, arrays in list(self._mapped.items()):
            for name, array in zip(("vectors", "scales"), arrays, strict=True):
                if array is not None and was_cut(array):
                    return _file_name(name, self.manifest.shards[number])
        return None

    def _shards_of(self, start: int, stop: int) -> tuple[int, int]:
        return int(np.searchsorted(self.starts, start, side="right")) - 1, int(np.searchsorted(self.starts, stop))

    def _shard_range(self) -> range:
        return range(len(self.manifest.shards))


def _file_name(name: str, shard: ShardEntry) -> str:
    return f"{name}-{shard.number:05}.npy"


def _numbers(array: Any) -> np.ndarray:
    """Taken so that pyarrow need not import pandas, which would take half a second of the first search."""
    return np.from_dlpack(array)


def _arrow(rows: np.ndarray) -> Any:
    """Built so, for the same reason."""
    import pyarrow

    return pyarrow.Array.from_buffers(pyarrow.int64(), len(rows), [None, pyarrow.py_buffer(rows)])
