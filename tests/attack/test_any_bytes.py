"""Files of any bytes: a reader gives documents or a message, an array is opened or refused, and nothing else."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mcontriever.errors import StoreError, UserError
from mcontriever.npy_files import mapped, read_array
from mcontriever.texts.documents import Document, read_documents
from tests.attack.attempt import attempt

ROWS = [{"id": f"d{number}", "text": "rain on the hills", "title": "", "language": "en"} for number in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = ("id\ttext\n" + "".join(f"{row['id']}\t{row['text']}\n" for row in ROWS)).encode()


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(ROWS), sink)
    return bytes(sink.getvalue())


WHOLE: dict[str, bytes] = {
    "a.jsonl": LINES,
    "a.json": json.dumps(ROWS).encode(),
    "a.tsv": TABLE,
    "a.csv": TABLE.replace(b"\t", b","),
    "a.parquet": parquet_bytes(),
    "a.jsonl.gz": gzip.compress(LINES),
    "a.jsonl.xz": lzma.compress(LINES),
    "a.jsonl.zst": zstandard.compress(LINES),
}
ATTACKS = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPLICES = st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=40))


def spliced(whole: bytes, splice: tuple[float, int, bytes]) -> bytes:
    """Some bytes taken out, others put in."""
    place, gone, new = int(splice[0] * len(whole)), splice[1], splice[2]
    return whole[:place] + new + whole[place + gone :]


@pytest.mark.parametrize("name", WHOLE)
@ATTACKS
@given(splice=SPLICES)
def test_readers(tmp_path: Path, name: str, splice: tuple[float, int, bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(spliced(WHOLE[name], splice))
    try:
        documents = list(read_documents(path))
    except UserError as error:
        assert error.where  # noqa: PT017 (either outcome is right)
        assert error.fix  # noqa: PT017
        return
    assert all(isinstance(one, Document) for one in documents)


ODD_FILES: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(100),
    "deep": b"[" * 100_000,
    "not UTF-8": b'{"id": "a", "text": "\xff\xfe"}',
    "half a pair": b'{"id": "\\ud800", "text": "a"}',
    "no id": b'{"text": "a"}',
    "a list as title": b'{"id": "a", "text": "a", "title": ["x"]}',
    "an object as language": b'{"id": "a", "text": "a", "language": {"x": 1}}',
    "an empty id": b'{"id": "", "text": "a"}',
    "the same id twice": b'{"id": "a", "text": "a"}\n{"id": "a", "text": "b"}',
    "a number": b"7",
}
COMMANDS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "embed": lambda file, whole: ("embed", file, "--model", "bm25", "--output", "out"),
    "replace": lambda file, whole: ("embed", file, "--model", "bm25", "--output", "out", "--replace"),
    "queries": lambda file, whole: ("search", whole / "words", "--queries", file),
    "ids": lambda file, whole: ("delete", whole / "words", "--ids-from", file),
    "trim": lambda file, whole: ("trim", whole / "model", "--text", file, "--output", "out"),
    "recipe": lambda file, whole: ("prepare", file, "--output", "out", "--tokenizer", whole / "tokenizer"),
    "tokenizer": lambda file, whole: ("tokenizer", file, "--output", "out", "--vocabulary", 100),
    "train": lambda file, whole: ("train", "--config", file),
    "mine": lambda file, whole: ("mine", "--config", file),
    "generate": lambda file, whole: ("generate", "--config", file),
    "plan": lambda file, whole: ("run", file),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ODD_FILES)
def test_commands(whole: Path, tmp_path: Path, command: str, name: str) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_bytes(ODD_FILES[name])
    outcome = attempt(*COMMANDS[command](file, whole))
    outcome.require_clean()
    assert outcome.code == 0 or outcome.told(), outcome.explained()
    if outcome.code:
        assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob(".partial-*"))


HEADERS = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(["<f4", "<i8", "|O", "S2", "<U1", "x", "<f16", "|V9"]),
        "fortran_order": st.sampled_from([True, False, 1, "no"]),
        "shape": st.sampled_from([(), (4,), (-4,), (2, 2), (10**12,), (0, 3), (4, 10**9), "4", None]),
    }
)


@ATTACKS
@given(header=HEADERS, data=st.binary(max_size=64), splice=SPLICES, whole=st.booleans())
def test_arrays(tmp_path: Path, header: dict[str, object], data: bytes, splice: object, whole: bool) -> None:
    text = repr(header).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    path = tmp_path / "a.npy"
    path.write_bytes(content if whole else spliced(content, splice))  # type: ignore[arg-type]
    for read in (mapped, read_array):
        try:
            array = read(path)
        except StoreError:
            continue
        assert isinstance(array, np.ndarray)
        assert array.nbytes <= len(content)
