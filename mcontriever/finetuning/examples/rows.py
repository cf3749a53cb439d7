"""Rows of named fields from any container people keep examples in, each with the place it stands at.

JSON lines and CSV (compressed or not), a JSON array of any size, Parquet, a folder that `datasets` saved, a local
folder in the hub's layout, or a hub dataset (hub:ORGANISATION/NAME). Nothing is held in memory but the row at hand.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from mcontriever.errors import DataError
from mcontriever.records import read_json_objects
from mcontriever.streams import expand_paths, is_remote, open_bytes, require_host

CHUNK_BYTES = 1 << 22
MAX_OBJECT_CHARACTERS = 1 << 26
HUB_PREFIX = "hub:"
Row = tuple[str, dict[str, Any]]


def read_rows(paths: Sequence[str], split: str = "train") -> Iterator[Row]:
    """("file:line", fields) of every row of all paths, in order."""
    for pattern in paths:
        if pattern.startswith(HUB_PREFIX):
            yield from _hub_rows(pattern.removeprefix(HUB_PREFIX), split)
            continue
        for path, _ in expand_paths([pattern]):
            yield from _rows_of(path, split)


def _rows_of(path: str, split: str) -> Iterator[Row]:
    if Path(path).is_dir():
        return _folder_rows(Path(path), split)
    if not is_remote(path) and not Path(path).is_file():
        raise DataError("no such file", where=path, fix="check the path")
    if path.endswith(".parquet"):
        return _parquet_rows(path)
    if ".csv" in Path(path).suffixes:
        return _csv_rows(path)
    if _starts_an_array(path):
        return _array_rows(path)
    return ((f"{path}:{number}", record) for number, record in read_json_objects(path))


def _starts_an_array(path: str) -> bool:
    with open_bytes(path) as stream:
        return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _array_rows(path: str) -> Iterator[Row]:
    """The objects of one JSON array, decoded one at a time as its text streams by."""
    with open_bytes(path) as stream:
        text = _JsonText(stream, path)
        text.skip(" \t\r\n[")
        while text.skip(", \t\r\n") not in ("]", ""):
            place = f"{path}:{text.line}"
            yield place, _checked_object(text.take(), place)
        if text.skip("") == "":
            raise DataError("the JSON array is cut off", where=f"{path}:{text.line}", fix="fetch the file again")


class _JsonText:
    """A window on a stream of JSON: `skip` goes to the next character of interest, `take` decodes what stands there."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self.stream, self.path = stream, path
        self.line = 1
        self.text, self.position, self.ended = "", 0, False
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._decoder = json.JSONDecoder()

    def skip(self, characters: str) -> str:
        """Pass over these characters; returns the one that stops it, "" at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in characters:
                self.line += self.text[self.position] == "\n"
                self.position += 1
            if self.position < len(self.text) or self.ended:
                return self.text[self.position : self.position + 1]
            self._read_on()

    def take(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.position)
                break
            except json.JSONDecodeError as error:
                if self.ended or len(self.text) - self.position > MAX_OBJECT_CHARACTERS:
                    line = self.line + self.text.count("\n", self.position, error.pos)
                    raise DataError(
                        f"not valid JSON: {error.msg}", where=f"{self.path}:{line}", fix="mend the file"
                    ) from error
            self._read_on()
        self.line += self.text.count("\n", self.position, end)
        self.position = end
        return value

    def _read_on(self) -> None:
        """Reads as much as is waiting to be decoded, so that a long object is not tried again too often."""
        block = self.stream.read(max(CHUNK_BYTES, len(self.text) - self.position))
        self.text = self.text[self.position :] + self._utf8.decode(block, final=not block)
        self.position, self.ended = 0, not block


def _checked_object(record: Any, place: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise DataError(f"expected a JSON object, found {type(record).__name__}", where=place, fix="mend the file")
    return record


def _csv_rows(path: str) -> Iterator[Row]:
    with open_bytes(path) as stream:
        reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline=""))
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"expected {len(reader.fieldnames or [])} columns, found another number",
                    where=f"{path}:{reader.line_num}",
                    fix="quote texts that hold commas or line breaks",
                )
            yield f"{path}:{reader.line_num}", dict(row)


def _parquet_rows(path: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"not a Parquet file: {error}", where=path, fix="fetch the file again") from error
    with file:
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                number += 1
                yield f"{path}:{number}", record


def _folder_rows(folder: Path, split: str) -> Iterator[Row]:
    import datasets

    if (folder / "state.json").is_file():
        return _numbered(str(folder), datasets.load_from_disk(str(folder)))
    if (folder / "dataset_dict.json").is_file():
        return _numbered(f"{folder}/{split}", _split_of(datasets.load_from_disk(str(folder)), split, str(folder)))
    return _load(str(folder), split)


def _hub_rows(name: str, split: str) -> Iterator[Row]:
    offline_way = "download the dataset's files and give their local paths"
    require_host("https://huggingface.co", offline_way)
    yield from _load(name, split)


def _load(name: str, split: str) -> Iterator[Row]:
    import datasets

    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
    except (ValueError, FileNotFoundError) as error:
        raise DataError(
            f"`datasets` cannot read the split {split!r}: {error}", where=name, fix="check the name and the split"
        ) from error
    return _numbered(f"{name}/{split}", rows)


def _split_of(splits: Any, split: str, where: str) -> Any:
    if split not in splits:
        raise DataError(f"no split {split!r}; there are {', '.join(splits)}", where=where, fix="choose one of them")
    return splits[split]


def _numbered(name: str, rows: Any) -> Iterator[Row]:
    return ((f"{name}:{number}", row) for number, row in enumerate(rows, start=1))
