"""A collection on disk against the same collection in a dictionary."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from mcontriever.errors import DataError
from mcontriever.finetuning.examples.passage_collection import PassageCollection, text_key
from mcontriever.texts.documents import Document


def passages(count: int) -> dict[str, str]:
    return {str(7 * number): f"passage {number} über Wörter {'x' * (number % 13)}" for number in range(count)}


@pytest.mark.parametrize("name", ["collection.tsv", "collection.tsv.gz", "corpus.jsonl"])
def test_rows_and_ids(tmp_path: Path, name: str) -> None:
    texts = passages(200)
    if name.endswith("jsonl"):
        content = "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items())
    else:
        content = "".join(f"{key}\t{text}\n" for key, text in texts.items())
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    collection = PassageCollection.open(tmp_path / name)
    assert len(collection) == 200
    wanted = ["1393", "nobody", "0", "70"]
    rows = collection.rows_of(wanted)
    assert rows.tolist() == [199, -1, 0, 10]
    found = collection.documents(rows[rows >= 0])
    assert found == [Document(key, texts[key]) for key in ("1393", "0", "70")]
    everyone = collection.documents(np.arange(200))
    assert {document.id: document.text for document in everyone} == texts
    assert collection.text_keys_N.tolist() == [text_key(text) for text in texts.values()]


def test_dpr_passages_with_header_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "psgs_w100.tsv"
    path.write_text('id\ttext\ttitle\n1\t"Aaron ( or; ""Ahärôn"") is a prophet."\tAaron\n2\tplain text\tGod\n')
    collection = PassageCollection.open(path)
    assert collection.documents([0, 1]) == [
        Document("1", 'Aaron ( or; "Ahärôn") is a prophet.', "Aaron"),
        Document("2", "plain text", "God"),
    ]


def test_blank_lines_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "collection.tsv"
    path.write_bytes(b"1\tone\r\n\n2\ttwo\n\n3\tthree")
    collection = PassageCollection.open(path)
    assert [document.text for document in collection.documents([0, 1, 2])] == ["one", "two", "three"]


def test_text_keys_ignore_case_and_blanks_only() -> None:
    assert text_key(" The  River\n") == text_key("the river")
    assert text_key("the river") != text_key("the rivers")


def test_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "collection.tsv"
    path.write_text("1\tone\n2 two\n")
    with pytest.raises(DataError, match=r"found 1 columns(.|\n)*collection.tsv:2"):
        PassageCollection.open(path)
    path.write_text("1\tone\n2\ttwo\n1\tother\n")
    with pytest.raises(DataError, match="1 duplicate ids; the first is in passages 1 and 3"):
        PassageCollection.open(path)
    path.write_text("")
    with pytest.raises(DataError, match="contains no passage"):
        PassageCollection.open(path)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "x"}\n{"_id": "b"}\n')
    with pytest.raises(DataError, match=r"no field text(.|\n)*corpus.jsonl:2"):
        PassageCollection.open(tmp_path / "corpus.jsonl")
    with pytest.raises(DataError, match="no such file"):
        PassageCollection.open(tmp_path / "absent.tsv")


def test_a_folder_that_cannot_be_written_gets_its_index_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcontriever.finetuning.examples.cache_folder.os.access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "collection.tsv").write_text("1\tone\n")
    assert len(PassageCollection.open(tmp_path / "data" / "collection.tsv")) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["collection.tsv"]
    assert list((tmp_path / "cache").rglob("starts.npy"))
