"""readers.py: the same documents from every format and compression; damage costs what is damaged and nothing else."""

import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from mcontriever.preparation.readers import SourceShard, read_shard
from mcontriever.preparation.source_document import Damage, SourceDocument, document_of_row, json_line_reader

DOCUMENTS = [
    {"text": "Mto Nile ni mrefu.", "title": "Nile", "language": "sw"},
    {"text": "نهر النيل طويل.\nسطر ثان.", "title": "النيل", "language": "ar"},
    {"text": "尼罗河很长。", "title": "", "language": "zh"},
]
FIELDS = {"text": "text", "title": "title", "language": "language"} | dict.fromkeys(
    ["language_score", "perplexity", "bucket"]
)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def shard_of(path: Path | str, reader: str, **changes: Any) -> SourceShard:
    given: dict[str, Any] = {"fields": FIELDS, "languages": {}, "source_bytes": None} | changes
    return SourceShard(number=0, reader=reader, path=str(path), **given)


def read(path: Path | str, reader: str = "jsonl", **changes: Any) -> tuple[list[SourceDocument], list[tuple[str, int]]]:
    items = list(read_shard(shard_of(path, reader, **changes)))
    texts = [item for item in items if isinstance(item, SourceDocument)]
    return texts, [(item.reason, item.line) for item in items if isinstance(item, Damage)]


def as_lines(documents: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(document, ensure_ascii=False).encode() + b"\n" for document in documents)


@pytest.mark.parametrize("suffix", PACKERS)
def test_json_lines_in_every_compression(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](as_lines(DOCUMENTS)))
    texts, damage = read(path)
    assert [(text.text, text.title, text.language) for text in texts] == [
        (document["text"], document["title"], document["language"]) for document in DOCUMENTS
    ]
    assert [text.line for text in texts] == [1, 2, 3]
    assert damage == []


def test_ccnet_lines(tmp_path: Path) -> None:
    line = {
        "url": "http://www.example.org/1",
        "date_download": "2019-02-15T18:40:25Z",
        "digest": "sha1:ABC",
        "length": 19,
        "nlines": 1,
        "source_domain": "www.example.org",
        "title": "Mfano",
        "raw_content": "Hii ni hati moja.",
        "language": "sw",
        "language_score": 0.97,
        "perplexity": 255.1,
        "bucket": "head",
    }
    path = tmp_path / "sw_head_0000.json.gz"
    path.write_bytes(gzip.compress(as_lines([line, {**line, "perplexity": None}])))
    names = ("title", "language", "language_score", "perplexity", "bucket")
    texts, damage = read(path, "ccnet", fields={"text": "raw_content"} | {name: name for name in names})
    assert texts[0] == SourceDocument(
        line=1,
        text="Hii ni hati moja.",
        title="Mfano",
        language="sw",
        language_score=0.97,
        perplexity=255.1,
        bucket="head",
    )
    assert texts[1].perplexity is None
    assert damage == []


def test_cc100_blocks_and_plain_lines(tmp_path: Path) -> None:
    path = tmp_path / "sw.txt.xz"
    path.write_bytes(lzma.compress(b"moja\nmbili\n\n\ntatu\n \nnne"))
    texts, damage = read(path, "cc100")
    assert [(text.line, text.text) for text in texts] == [(1, "moja\nmbili"), (5, "tatu"), (7, "nne")]
    texts, damage = read(path, "text")
    assert [(text.line, text.text) for text in texts] == [(1, "moja"), (2, "mbili"), (5, "tatu"), (7, "nne")]
    assert damage == []


def test_parquet_reads_as_json_lines_do(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([*DOCUMENTS * 300, {"text": None, "title": None, "language": None}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    texts, damage = read(tmp_path / "a.parquet", "parquet")
    assert [(text.text, text.title, text.language) for text in texts[:-1]] == [
        (document["text"], document["title"], document["language"]) for document in DOCUMENTS * 300
    ]
    assert (texts[-1].text, texts[-1].language, texts[-1].line) == ("", "", 901)
    assert damage == []


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + as_lines(DOCUMENTS).replace(b"\n", b"\r\n") + b"\r\n")
    texts, damage = read(path)
    assert [text.text for text in texts] == [document["text"] for document in DOCUMENTS]
    assert damage == []


def test_bad_lines_are_named_and_good_ones_survive(tmp_path: Path) -> None:
    good = as_lines(DOCUMENTS[:1])
    path = tmp_path / "a.jsonl"
    bad = [
        b'{"text": "cut',
        b"[1, 2]",
        b'{"title": "no text"}',
        b'{"text": 5}',
        '{"text": "\u00e9"}'.encode("latin-1"),
        b'{"text": "\\ud800"}',
        b"\x00\x01",
    ]
    path.write_bytes(b"".join(good + line + b"\n" for line in bad) + good + b'{"text": null}\n')
    texts, damage = read(path)
    assert [text.line for text in texts] == [1, 3, 5, 7, 9, 11, 13, 15, 16]
    assert damage == [
        ("malformed", 2),
        ("malformed", 4),
        ("malformed", 6),
        ("malformed", 8),
        ("undecodable", 10),
        ("malformed", 12),
        ("malformed", 14),
    ]
    whats = [item.what for item in read_shard(shard_of(path, "jsonl")) if isinstance(item, Damage)]
    assert "no field 'text'; the row has title" in whats[2]
    assert "field 'text' must be a string, is int" in whats[3]


@pytest.mark.parametrize("reader", ["text", "cc100"])
def test_undecodable_text_costs_only_itself(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"moja\n\n\xff\xfe\x00m\n\nmbili\n")
    texts, damage = read(path, reader)
    assert [text.text for text in texts] == ["moja", "mbili"]
    assert damage == [("undecodable", 3)]


@pytest.mark.parametrize("reader", ["jsonl", "text", "cc100"])
def test_a_line_beyond_the_bound_is_passed_over(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "a.gz"
    fine = b'{"text": "fine"}'
    path.write_bytes(gzip.compress(fine + b"\n\n" + b"x" * 5_000_000 + b"\n\n" + fine + b"\n\n" + b"y" * 2_000))
    texts, damage = read(path, reader, max_line_bytes=1000)
    assert [text.line for text in texts] == [1, 5]
    assert damage == [("too_long_line", 3), ("too_long_line", 7)]


def test_a_block_without_end_is_one_too_long_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a line\n" * 1000 + b"\nfine\n")
    texts, damage = read(path, "cc100", max_line_bytes=1000)
    assert [text.text for text in texts] == ["fine"]
    assert damage == [("too_long_line", 1)]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_cut_file_gives_all_of_its_whole_lines(tmp_path: Path, suffix: str) -> None:
    lines = [json.dumps({"text": os.urandom(30).hex()}).encode() + b"\n" for _ in range(8_000)]
    packed = PACKERS[suffix](b"".join(lines))
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    texts, damage = read(path)
    assert len(texts) > 0.4 * len(lines)
    assert [text.text for text in texts] == [json.loads(line)["text"] for line in lines[: len(texts)]]
    assert damage in ([("truncated", len(texts) + 1)] * 2, [("truncated", len(texts) + 1)])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jsonl", b"", "empty_file"),
        ("empty.jsonl.gz", b"", "empty_file"),
        ("blank.jsonl", b"\n\n \n", "empty_file"),
        ("not.jsonl.gz", b"plain text", "corrupt"),
        ("not.jsonl.xz", b"plain text", "corrupt"),
        ("not.jsonl.zst", b"plain text", "corrupt"),
        ("folder.jsonl", None, "directory"),
        ("absent.jsonl", ..., "missing"),
    ],
)
def test_files_that_give_nothing_are_named(tmp_path: Path, name: str, content: Any, reason: str) -> None:
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif content is not ...:
        path.write_bytes(content)
    (damage,) = read_shard(shard_of(path, "jsonl"))
    assert isinstance(damage, Damage)
    assert (damage.reason, damage.whole_file) == (reason, True)


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.Table.from_pylist(DOCUMENTS)
    pyarrow.parquet.write_table(table, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert read(path, "parquet") == ([], [("corrupt", 1)])
    path.write_bytes(whole)
    (damage,) = read_shard(shard_of(path, "parquet", fields={**FIELDS, "text": "content"}))
    assert isinstance(damage, Damage)
    assert damage.what.startswith("no column 'content'; the file has text, title, language")


def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    """Root reads everything, so the reader runs in a process that has given that right up."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_lines(DOCUMENTS))
    path.chmod(0)
    script = """
import ctypes, os, sys
if len(sys.argv) == 2:
    if os.getuid() == 0:
        drop_from_bounding_set, override, read_search = 24, 1, 2
        for right in (override, read_search):
            assert ctypes.CDLL(None).prctl(drop_from_bounding_set, right, 0, 0, 0) == 0
    os.execv(sys.executable, [sys.executable, "-c", os.environ["SCRIPT"], sys.argv[1], "again"])
from mcontriever.preparation.readers import SourceShard, read_shard
(damage,) = read_shard(SourceShard(0, "jsonl", sys.argv[1], None, {}, fields={"text": "text"}))
print(damage.reason, damage.whole_file)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "SCRIPT": script},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "permission True\n", done.stderr


def test_a_folder_in_the_hubs_layout_is_streamed_part_by_part(tmp_path: Path) -> None:
    from mcontriever.preparation.hub_parts import count_parts

    for language, documents in (("swh_Latn", DOCUMENTS[:1]), ("arb_Arab", DOCUMENTS[1:])):
        data = tmp_path / "data" / language
        data.mkdir(parents=True)
        for part, document in enumerate(documents):
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([document]), data / f"train-{part:05}.parquet")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: swh_Latn\n  data_files: data/swh_Latn/*.parquet\n"
        "- config_name: arb_Arab\n  data_files: data/arb_Arab/*.parquet\n---\n"
    )
    assert count_parts(str(tmp_path), "swh_Latn", "train") == 1
    assert count_parts(str(tmp_path), "arb_Arab", "train") == 2
    found = []
    for part in range(2):
        texts, damage = read(tmp_path, "hub", configuration="arb_Arab", part=(part, 2))
        found += [text.text for text in texts]
        assert damage == []
    assert found == [document["text"] for document in DOCUMENTS[1:]]
    shard = shard_of("org/data", "hub", configuration="arb_Arab", part=(1, 2))
    assert shard.name == "org/data/arb_Arab/train/part-1-of-2"


def test_a_line_is_read_as_its_record_is_whatever_stands_in_it() -> None:
    names = ("text", "title", "language", "language_score", "perplexity", "bucket")
    odd: list[Any] = [None, "a\u0000\U0001f30d", "", 3, -2.5, 10**30, True, [], {"a": [1]}]
    records = [{"x": 0, "text": "good", name: value} for name in names for value in odd]
    for fields in (dict.fromkeys(names), dict(zip(names, names, strict=True)), {**FIELDS, "bucket": "title"}):
        fields = {**fields, "text": "text"}
        read_line = json_line_reader(fields)
        for record in records:
            line = json.dumps(record).encode()
            assert read_line(7, line) == document_of_row(7, orjson.loads(line), fields)
