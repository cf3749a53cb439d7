"""corpus.py: one reader for all formats, the same documents from each, and clear words for what cannot be read."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from mcontriever.errors import DataError
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import mixed_documents, write_lines

DOCUMENTS = mixed_documents(40)


def lines() -> bytes:
    return b"".join(
        orjson.dumps({"id": d.id, "text": d.text, "title": d.title, "lang": d.language}) + b"\n" for d in DOCUMENTS
    )


def write_parquet(folder: Path) -> Path:
    rows = [{"id": d.id, "text": d.text, "title": d.title, "language": d.language} for d in DOCUMENTS]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "c.parquet", row_group_size=7)
    return folder / "c.parquet"


def write_tsv(folder: Path) -> Path:
    rows = ["id\ttext\ttitle\tlanguage"]
    rows += ["\t".join(f'"{part}"' for part in (d.id, d.text, d.title, d.language)) for d in DOCUMENTS]
    (folder / "c.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "c.tsv"


def write_two_files(folder: Path) -> Path:
    write_lines(folder / "many" / "a.jsonl", DOCUMENTS[:15])
    write_lines(folder / "many" / "b.jsonl.gz", DOCUMENTS[15:])
    return folder / "many"


def write_bytes(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


WRITERS: dict[str, Callable[[Path], Path]] = {
    "plain": lambda folder: write_bytes(folder, "c.jsonl", lines()),
    "no last newline, blank lines": lambda folder: write_bytes(folder, "c.jsonl", b"\n" + lines().strip() + b"\n \n"),
    "gz": lambda folder: write_bytes(folder, "c.jsonl.gz", gzip.compress(lines())),
    "xz": lambda folder: write_bytes(folder, "c.jsonl.xz", lzma.compress(lines())),
    "zst": lambda folder: write_bytes(folder, "c.jsonl.zst", zstandard.compress(lines())),
    "parquet": write_parquet,
    "tsv": write_tsv,
    "beir": lambda folder: write_lines(folder / "beir" / "corpus.jsonl.gz", DOCUMENTS).parent,
    "folder": write_two_files,
    "wildcard": lambda folder: write_two_files(folder) / "*.jsonl*",
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    corpus = Corpus.open(WRITERS[name](tmp_path))
    assert [document for _, document in corpus.documents()] == DOCUMENTS
    ranges = list(corpus.ranges([(0, 4), (10, 20), (20, 21), (39, 40)]))
    assert ranges == [DOCUMENTS[0:4], DOCUMENTS[10:20], DOCUMENTS[20:21], DOCUMENTS[39:40]]
    again = Corpus.from_description(orjson.loads(orjson.dumps(corpus.description())))
    assert next(again.ranges([(5, 8)])) == DOCUMENTS[5:8]
    assert corpus.state() == again.state()


def test_a_hub_dataset_laid_out_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_lines(tmp_path / "hub" / "train.jsonl", DOCUMENTS)
    corpus = Corpus.open(f"hub:{tmp_path / 'hub'}")
    assert [document for _, document in corpus.documents()] == DOCUMENTS
    assert list(corpus.ranges([(3, 5), (38, 40)])) == [DOCUMENTS[3:5], DOCUMENTS[38:40]]
    assert corpus.state() == corpus.state()


def test_a_hub_that_cannot_be_reached_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from mcontriever.errors import HubError

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.create_connection", refuse)
    with pytest.raises(HubError, match=r"huggingface\.co cannot be reached"):
        next(Corpus.open("hub:nobody/nothing").documents())


def refuse(*_: object, **__: object) -> None:
    raise OSError("no route")


def test_fields_and_a_language_for_documents_without_one(tmp_path: Path) -> None:
    rows = [{"url": "u1", "body": "first"}, {"url": 2, "body": "second", "language": "sw", "headline": "H"}]
    path = write_bytes(tmp_path, "c.jsonl", b"\xef\xbb\xbf" + b"\r\n".join(map(orjson.dumps, rows)))  # from Windows
    corpus = Corpus.open(path, fields={"id": "url", "text": "body", "title": "headline"}, language="ar")
    assert [document for _, document in corpus.documents()] == [
        Document("u1", "first", "", "ar"),
        Document("2", "second", "H", "sw"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("c.jsonl", b'{"id": "1", "text": "a"}\n{"id": ', r"not a JSON line.*\n  where: .*c\.jsonl:2"),
        ("c.jsonl", b"[1]", r"expected a JSON object, found list"),
        (
            "c.jsonl",
            b'{"id": "1", "content": "a"}',
            r"no field text or .*; the row has id, content\n.*\n.*text=NAME",
        ),
        ("c.jsonl", b'{"text": "a"}', r"no field _id or id"),
        ("c.jsonl", b'{"id": [1], "text": "a"}', r"the id must be a string, is list"),
        ("c.tsv", b'id\ttext\n1\t"never closed\n2\tb\n', r"the quotes do not match.*\n.*c\.tsv:3\n.*--fields id=1"),
        ("c.jsonl", b'{"id": "1", "text": ["a"]}', r"the text must be a string, is list"),
        ("c.jsonl", b'{"id": "1", "text": "\\ud800"}', r"not a JSON line"),
        ("c.jsonl", b'{"id": "1", "text": "\xff"}', r"not UTF-8: byte 0xff at 22\n.*c\.jsonl:1\n.*iconv -f"),
        ("c.jsonl", '{"id": "1", "text": "a"}'.encode("utf-16"), r"not UTF-8: byte 0xff at 1\n.*\n.*UTF-16"),
        ("c.tsv", b"id\ttext\n1\tcaf\xe9\n", r"not UTF-8: byte 0xe9 at 6\n.*c\.tsv:2"),
        ("c.jsonl.gz", gzip.compress(b'{"id": "1", "text": "a"}' * 50, mtime=0)[:-12], r"c\.jsonl\.gz"),
        ("c.tsv", b"id\ttext\n1\ta\tb\n", r"3 columns under a header of 2\n  where: .*c\.tsv:2"),
        ("c.parquet", b"PAR1nothing", r"the content is damaged"),
        ("c.docx", b"", r"c\.docx ends in none of \.jsonl"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    path = write_bytes(tmp_path, name, data)
    with pytest.raises(DataError, match=expected):
        list(Corpus.open(path).documents())


def test_paths_that_hold_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Corpus.open(tmp_path / "nothing.jsonl")
    with pytest.raises(DataError, match=r"no corpus\.jsonl, and no file that ends in"):
        Corpus.open(tmp_path)
    with pytest.raises(DataError, match="no file matches"):
        Corpus.open(tmp_path / "*.jsonl")
    write_bytes(tmp_path, "a.jsonl", b"")
    write_bytes(tmp_path, "b.tsv", b"")
    with pytest.raises(DataError, match="files of several kinds: jsonl, tsv"):
        Corpus.open(tmp_path)
    with pytest.raises(DataError, match="unknown field txt=body"):
        Corpus.open(tmp_path / "a.jsonl", fields={"txt": "body"})


def test_a_corpus_that_became_shorter_is_noticed(tmp_path: Path) -> None:
    corpus = Corpus.open(write_lines(tmp_path / "c.jsonl", DOCUMENTS[:5]))
    with pytest.raises(DataError, match="the corpus ended early: documents 3 to 9 were expected"):
        list(corpus.ranges([(3, 9)]))


def test_no_password_of_an_address_is_stored() -> None:
    url = "memory://reader:secret@host/corpus.jsonl?token=hidden"
    corpus = Corpus(url, "jsonl", (url,), {})
    shown = str(corpus.description())
    assert "memory://***@host/corpus.jsonl?token=***" in shown
    assert "secret" not in shown
    assert "hidden" not in shown
