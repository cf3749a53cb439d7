"""rows.py: the same rows and places from every container, and clear words for what cannot be read."""

import contextlib
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from mcontriever.errors import DataError
from mcontriever.texts.rows import read_rows

ROWS = [
    {"id": "1", "text": "Mto Nile, ni mrefu."},
    {"id": "2", "text": 'He said "yes".\nThen he left.'},
    {"id": "3", "text": "尼罗河"},
]


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def quoted(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = [delimiter.join(rows[0]), *(delimiter.join(cell(value) for value in row.values()) for row in rows)]
    return ("\r\n".join(lines) + "\r\n").encode()


def write_saved(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def write_saved_splits(folder: Path) -> Path:
    splits = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:1])}
    datasets.DatasetDict(splits).save_to_disk(str(folder / "splits"))
    return folder / "splits"


def write_hub_layout(folder: Path) -> Path:
    write(folder / "hub" / "train.jsonl", json_lines(ROWS))
    return folder / "hub"


def write_parquet(folder: Path) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "a.parquet", row_group_size=2)
    return folder / "a.parquet"


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


CONTAINERS: dict[str, tuple[Callable[[Path], Path], list[int]]] = {
    "lines": (lambda folder: write(folder / "a.jsonl", json_lines(ROWS)), [1, 2, 3]),
    "lines of an unknown suffix": (lambda folder: write(folder / "a.data", json_lines(ROWS)), [1, 2, 3]),
    "byte order mark": (lambda folder: write(folder / "a.jsonl", b"\xef\xbb\xbf" + json_lines(ROWS)), [1, 2, 3]),
    "gz": (lambda folder: write(folder / "a.jsonl.gz", gzip.compress(json_lines(ROWS))), [1, 2, 3]),
    "array": (lambda folder: write(folder / "a.json", json.dumps(ROWS, indent=0).encode()), [2, 6, 10]),
    "array, xz": (lambda folder: write(folder / "a.json.xz", lzma.compress(json.dumps(ROWS).encode())), [1, 1, 1]),
    "csv": (lambda folder: write(folder / "a.csv", quoted(ROWS, ",")), [2, 4, 5]),
    "tsv, zst": (lambda folder: write(folder / "a.tsv.zst", zstandard.compress(quoted(ROWS, "\t"))), [2, 4, 5]),
    "parquet": (write_parquet, [1, 2, 3]),
    "saved": (write_saved, [1, 2, 3]),
    "saved splits": (write_saved_splits, [1, 2, 3]),
    "hub layout": (write_hub_layout, [1, 2, 3]),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    container, numbers = CONTAINERS[name]
    path = container(tmp_path)
    found = list(read_rows(str(path)))
    assert [dict(row.fields()) for row in found] == ROWS
    assert [row.place for row in found] == [f"{path}:{number}" for number in numbers]


def test_columns_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", b'7\tfive "quotes\n\n8\tb\r\n')
    rows = read_rows(str(path), columns_by_number=True)
    assert [(row.number, row.fields()) for row in rows] == [
        (1, {"1": "7", "2": 'five "quotes'}),
        (3, {"1": "8", "2": "b"}),
    ]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.tsv", b"id\ttext\tid\n1\ta\t2\n", r"the header has id more than once\n  where: .*a\.tsv:1"),
        ("a.csv", b"id,text\n1,a,b\n", r"3 columns under a header of 2\n  where: .*a\.csv:2"),
        ("a.csv", b'id,text\n1,"a\n', r"the quotes do not match"),
        ("a.csv", b"id,text\n1,\xff\n", r"not UTF-8: byte 0xff at 3\n  where: .*a\.csv:2"),
        ("a.json", b'[{"a": 1}, 7]', r"expected a JSON object, found int\n  where: .*a\.json:1"),
        ("a.json", b'[{"a": 1},\n{"a": ', r"not valid JSON: .*\n  where: .*a\.json:2"),
        ("a.json", b'[{"a": 1}', r"the JSON array is cut off"),
        ("a.json", b'[{"a": "\xff"}]', r"not UTF-8: byte 0xff"),
        ("a.jsonl", b'{"a": 1}\n\n[1]\n', r"expected a JSON object, found list\n  where: .*a\.jsonl:3"),
        ("a.parquet", b"PAR1nothing", r"the content is damaged"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    path = write(tmp_path / name, data)
    with pytest.raises(DataError, match=expected):
        [row.fields() for row in read_rows(str(path))]


def test_a_split_that_is_not_there_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'dev'; there are train, test"):
        list(read_rows(str(write_saved_splits(tmp_path)), split="dev"))
    with pytest.raises(DataError, match=r"cannot load the data set .* split 'dev'"):
        list(read_rows(str(write_hub_layout(tmp_path)), split="dev"))
    with pytest.raises(DataError, match="no such file"):
        list(read_rows(str(tmp_path / "absent.jsonl")))


def test_parquet_damaged_anywhere_is_read_or_named(tmp_path: Path) -> None:
    """Uncompressed texts carry no checksum of their own, so a flipped bit in one may go unnoticed, but never crash."""
    rows = [{"id": str(number), "text": "maji " * 20} for number in range(50)]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=20, compression="none")
    whole = path.read_bytes()
    for place in range(4, len(whole), 23):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            with contextlib.suppress(DataError):
                assert len([row.fields() for row in read_rows(str(path))]) <= len(rows)
