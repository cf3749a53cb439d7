"""Passages of a file by row or by id, not held in memory: byte offsets, and the memory-mapped file.

    passages = PassageCollection.open("collection.tsv")
    passages.documents(passages.rows_of(["7067032", "7067056"]))

The file is TSV (MS MARCO's `id, text` or DPR's `id, text, title` with a header) or JSON lines. The first opening
reads it and keeps offsets, ids and text keys beside it as .npy (24 bytes a passage); later ones map them. They belong
to the file's size, time and content at both ends, so a changed file is read again.

Shapes: N passages, R rows asked for.
"""

import hashlib
import mmap
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mcontriever.disk import atomic_folder, read_json, write_json
from mcontriever.errors import DataError
from mcontriever.finetuning.examples.cache_folder import cache_folder, file_state
from mcontriever.finetuning.examples.passage_lines import DPR_HEADER, PassageParser
from mcontriever.npy_files import mapped
from mcontriever.progress import log, track
from mcontriever.texts.documents import Document
from mcontriever.texts.streams import read_blocks

LAYOUT = 1


@dataclass(frozen=True, eq=False)
class PassageCollection:
    """`documents(rows)` reads, `rows_of(ids)` finds, equal `text_keys_N` mean equal texts."""

    origin: Path
    path: Path  # of the bytes: the origin, or an uncompressed copy of it
    starts: np.ndarray
    id_keys_N: np.ndarray
    id_rows_N: np.ndarray
    text_keys_N: np.ndarray

    @classmethod
    def open(cls, path: str | Path, cache: str | Path | None = None) -> "PassageCollection":
        """Map the collection in `path`; the first call indexes it (and unpacks it, if compressed)."""
        path = Path(path)
        if not path.is_file():
            raise DataError("no such file", where=path, fix="give the collection's .tsv or .jsonl file")
        folder = cache_folder(path, cache) / f"{path.name}.index-{_fingerprint(path)}"
        if not (folder / "manifest.json").is_file():
            _write_index(path, folder)
        manifest = read_json(folder / "manifest.json")
        arrays = {name: mapped(folder / f"{name}.npy") for name in _ARRAYS}
        return cls(origin=path, path=folder / "unpacked" if manifest["unpacked"] else path, **arrays)

    def __len__(self) -> int:
        return len(self.text_keys_N)

    @property
    def fields(self) -> dict[str, str]:
        """The field names that other readers of the file need."""
        return self._parse.fields

    @cached_property
    def _bytes(self) -> mmap.mmap | bytes:
        if not len(self):
            return b""
        with open(self.path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @cached_property
    def _parse(self) -> PassageParser:
        return PassageParser(self.origin, self._bytes[: len(DPR_HEADER) + 2])

    def documents(self, rows_R: np.ndarray | Sequence[int]) -> list[Document]:
        rows_R = np.asarray(rows_R, dtype=np.int64)
        return [
            self._parse(self._bytes[start:stop].split(b"\n", 1)[0])
            for start, stop in zip(self.starts[rows_R].tolist(), self.starts[rows_R + 1].tolist(), strict=True)
        ]

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """The row of each id; -1 for an unknown id."""
        if not ids or not len(self):
            return np.full(len(ids), -1, dtype=np.int64)
        wanted_R = np.fromiter((id_key(identifier) for identifier in ids), dtype=np.uint64, count=len(ids))
        places_R = np.minimum(np.searchsorted(self.id_keys_N, wanted_R), len(self) - 1)
        return np.where(self.id_keys_N[places_R] == wanted_R, self.id_rows_N[places_R], -1)


_ARRAYS = ("starts", "id_keys_N", "id_rows_N", "text_keys_N")


def id_key(identifier: str) -> int:
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "little")


def text_key(text: str) -> int:
    """Equal for texts that differ only in spaces and case; the title does not count."""
    return id_key(" ".join(text.split()).casefold())


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(f"{LAYOUT}{file_state(path)}".encode()).hexdigest()[:16]


def _write_index(path: Path, folder: Path) -> None:
    log.info(f"indexing {path} into {folder}")
    with atomic_folder(folder) as temporary:
        compressed = path.suffix in (".gz", ".xz", ".zst")
        if compressed:
            _unpack(path, temporary / "unpacked")
        starts, id_keys, text_keys = _scan(temporary / "unpacked" if compressed else path, path)
        if not text_keys:
            raise DataError("the file contains no passage", where=path, fix="check the path")
        id_keys_N = np.frombuffer(id_keys, dtype=np.uint64)
        id_rows_N = np.argsort(id_keys_N, kind="stable")
        arrays = {
            "starts": np.frombuffer(starts, dtype=np.uint64).astype(np.int64),
            "id_keys_N": id_keys_N[id_rows_N],
            "id_rows_N": id_rows_N,
            "text_keys_N": np.frombuffer(text_keys, dtype=np.uint64),
        }
        _refuse_duplicate_ids(path, arrays["id_keys_N"], id_rows_N)
        for name, values in arrays.items():
            np.save(temporary / f"{name}.npy", values)
        write_json(temporary / "manifest.json", {"passages": len(text_keys), "unpacked": compressed})


def _unpack(path: Path, target: Path) -> None:
    with open(target, "wb") as file:
        file.writelines(read_blocks(str(path)))


def _scan(path: Path, shown_path: Path) -> tuple[array, array, array]:
    """Byte offsets of all lines (and of the end), and the keys of their ids and texts."""
    starts, id_keys, text_keys = array("Q"), array("Q"), array("Q")
    empty = 0
    with track(None, f"index {shown_path.name}", "passages") as progress:
        for number, start, line, parse in _lines_of(path, shown_path):
            document = parse(line, f"{shown_path}:{number}")
            starts.append(start)
            id_keys.append(id_key(document.id))
            text_keys.append(text_key(document.text))
            empty += not document.text.strip()
            progress.advance()
    starts.append(path.stat().st_size)
    if empty:
        log.warning(f"{shown_path}: {empty:,} of {len(text_keys):,} passages are empty")
    return starts, id_keys, text_keys


def _lines_of(path: Path, shown_path: Path) -> Iterator[tuple[int, int, bytes, PassageParser]]:
    start = 0
    with open(path, "rb", buffering=1 << 20) as file:
        parse = PassageParser(shown_path, file.read(len(DPR_HEADER) + 2))
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if line.strip() and not (number == 1 and parse.is_dpr):
                yield number, start, line.rstrip(b"\n"), parse
            start += len(line)


def _refuse_duplicate_ids(path: Path, id_keys_N: np.ndarray, id_rows_N: np.ndarray) -> None:
    twice = np.flatnonzero(id_keys_N[1:] == id_keys_N[:-1])
    if len(twice):
        first, second = sorted((int(id_rows_N[twice[0]]), int(id_rows_N[twice[0] + 1])))
        raise DataError(
            f"{len(twice):,} duplicate ids; the first is in passages {first + 1:,} and {second + 1:,}",
            where=path,
            fix="give every passage its own id",
        )
