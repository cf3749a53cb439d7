"""documents.py: documents by their fields from every container, and mistakes named by file and line."""

import gzip
import json
from pathlib import Path

import pytest

from mcontriever.errors import DataError
from mcontriever.texts.documents import Document, read_documents


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
        ('{"id": "a", "content": "b"}', "no field text or contents or passage or body; the row has id, content"),
        ('{"text": "b"}', "no field _id or id"),
        ('{"id": [1], "text": "b"}', "the id must be a string, is list"),
        ('{"id": "", "text": "b"}', "the id is empty"),
        ('{"id": "a", "text": 1}', "the text must be a string, is int"),
        ('{"id": "a", "text": "b", "title": ["c"]}', "the title must be a string, is list"),
        ('{"id": "a", "text": "b", "language": {"code": "sw"}}', "the language must be a string, is dict"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "ok", "text": "ok"}\n' + line + "\n")
    with pytest.raises(DataError) as caught:
        list(read_documents(path))
    assert expected in str(caught.value)
    assert f"{path}:2" in str(caught.value)
