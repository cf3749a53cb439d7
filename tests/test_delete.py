"""`mcontriever delete`: exactly the documents that were named, or none."""

import json
from pathlib import Path

import numpy as np
import pytest

from mcontriever.errors import DataError
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.texts.documents import Document
from tests.conftest import RunCli
from tests.retrieval.small_corpora import all_ids, make_store

CUT = ["a", "b", "leading", "form", "feed", "cr", "x"]  # what careless reading makes of the others
ODD = ["a\u2028b", " leading", "form\x0cfeed", "cr\r", "\u00a0", "x\x85y"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "s", [Document(name, f"text of {name!r}") for name in CUT + ODD], None).folder


def live_ids(folder: Path) -> list[str]:
    store = EmbeddingStore.open(folder)
    ids = np.array(all_ids(store))
    return ids.tolist() if store.live_N is None else ids[store.live_N].tolist()


@pytest.mark.parametrize("kind", ["txt", "jsonl", "objects"])
def test_ids_in_a_file_are_the_users_bytes(tmp_path: Path, store: Path, cli: RunCli, kind: str) -> None:
    """Line and form feeds, blanks and other separators within ids cut nothing and lose nothing."""
    path = tmp_path / ("ids.txt" if kind == "txt" else "ids.jsonl")
    written = {"txt": str, "jsonl": json.dumps, "objects": lambda name: json.dumps({"_id": name})}[kind]
    path.write_bytes("".join(f"{written(name)}\n" for name in ODD).encode())
    done = cli("delete", store, "--ids-from", path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "deleted 6 documents")
    assert live_ids(store) == CUT


def test_an_unknown_id_deletes_nothing_unless_that_is_allowed(store: Path, cli: RunCli) -> None:
    before = (store / "manifest.json").read_bytes()
    done = cli("delete", store, "a", "nobody", "b")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 1 of 3 ids are not in the store, so nothing was deleted: nobody")
    assert "--missing-ok" in done.stderr
    assert (store / "manifest.json").read_bytes() == before
    done = cli("delete", store, "a", "nobody", "b", "--missing-ok")
    assert done.returncode == 0
    assert "1 ids are not in the store: nobody" in done.stderr
    assert live_ids(store) == [*CUT[2:], *ODD]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("ids.txt", b"a\n\xff\n", "the id is not UTF-8"),
        ("ids.jsonl", b'"a"\nb\n', "not a JSON line"),
        ("ids.jsonl", b'"a"\n[1]\n', "no id on this line"),
        ("ids.txt", b"a\r\nb\r\n", "2 of 2 ids are not in the store"),
        ("ids.txt", b"", "no id was given"),
    ],
)
def test_files_of_ids_that_cannot_be_right(
    tmp_path: Path, store: Path, cli: RunCli, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = cli("delete", store, "--ids-from", tmp_path / name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {expected}")
    assert "  fix: " in done.stderr
    assert live_ids(store) == CUT + ODD


def test_what_is_not_there_is_not_made(tmp_path: Path, store: Path, cli: RunCli) -> None:
    done = cli("delete", tmp_path / "no" / "store", "a")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no store here")
    assert not (tmp_path / "no").exists()
    done = cli("delete", store, "--ids-from", tmp_path / "none.txt")
    assert done.stderr.startswith("error: the ids cannot be read: No such file")
    with pytest.raises(DataError, match="is not UTF-8"):
        store_edits.delete(store, ["\udcff"])


def test_a_failed_build_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Broken:
        def fingerprint(self) -> str:
            raise RuntimeError("broken")

    encoder: object = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        Index.build(encoder, ["a text"])  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
