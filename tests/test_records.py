"""records.py: documents and queries by their fields, the BEIR layout, and mistakes named by file and line."""

import gzip
import json
from pathlib import Path

import pytest

from mcontriever.errors import DataError
from mcontriever.records import BeirFolder, Document, Query, read_documents, write_json_lines


def test_documents_by_default_and_by_named_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"_id": 7, "text": "maji", "title": "Maji", "language": "sw"}\n\n{"id": "b", "text": "eau"}\n',
        encoding="utf-8",
    )
    assert list(read_documents(path)) == [Document("7", "maji", "Maji", "sw"), Document("b", "eau")]
    named = tmp_path / "b.jsonl.gz"
    named.write_bytes(gzip.compress(json.dumps({"url": "u", "raw_content": "text", "lang": "x"}).encode()))
    assert list(read_documents(named, {"id": "url", "text": "raw_content"})) == [Document("u", "text", "", "x")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": "a", "text": ', "not a JSON line"),
        ("[1, 2]", "expected a JSON object, found list"),
        ('{"id": "a", "body": "b"}', "no field text; the line has id, body"),
        ('{"text": "b"}', "no field _id or id"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "ok", "text": "ok"}\n' + line + "\n")
    with pytest.raises(DataError) as caught:
        list(read_documents(path))
    assert expected in str(caught.value)
    assert f"{path}:2" in str(caught.value)


def write_beir(folder: Path) -> BeirFolder:
    write_json_lines(folder / "corpus.jsonl", [{"_id": "d1", "title": "T", "text": "x", "language": "en"}])
    write_json_lines(folder / "queries.jsonl", [{"_id": "q1", "text": "y", "language": "ar"}])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\n")
    return BeirFolder.load(folder)


def test_a_beir_folder(tmp_path: Path) -> None:
    beir = write_beir(tmp_path / "set")
    assert list(beir.documents()) == [Document("d1", "x", "T", "en")]
    assert list(beir.queries()) == [Query("q1", "y", "ar")]
    assert beir.relevance() == {"q1": {"d1": 2}}
    assert beir.name == "set"


def test_what_a_beir_folder_lacks_is_named(tmp_path: Path) -> None:
    beir = write_beir(tmp_path / "set")
    with pytest.raises(DataError, match=r"no file qrels/train\.tsv"):
        beir.relevance("train")
    (tmp_path / "set" / "qrels" / "test.tsv").write_text("q1\td1\n")
    with pytest.raises(DataError, match=r"a whole number by tabs, found 'q1\\td1'\n  where: .*test\.tsv:1"):
        beir.relevance()
    (tmp_path / "set" / "queries.jsonl").unlink()
    with pytest.raises(DataError, match=r"no file queries\.jsonl"):
        BeirFolder.load(tmp_path / "set")
    with pytest.raises(DataError, match="no such folder"):
        BeirFolder.load(tmp_path / "nothing")
