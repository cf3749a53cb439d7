"""beir_folder.py: the layout that BEIR has, and what is missing from it named."""

from pathlib import Path

import pytest

from mcontriever.errors import DataError
from mcontriever.texts.beir_folder import BeirFolder
from mcontriever.texts.documents import Document, Query
from mcontriever.texts.json_lines import write_json_lines


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
    with pytest.raises(DataError, match=r"a whole number between tabs, found 'q1\\td1'\n  where: .*test\.tsv:1"):
        beir.relevance()
    (tmp_path / "set" / "queries.jsonl").unlink()
    with pytest.raises(DataError, match=r"no file queries\.jsonl"):
        BeirFolder.load(tmp_path / "set")
    with pytest.raises(DataError, match="no such folder"):
        BeirFolder.load(tmp_path / "nothing")
