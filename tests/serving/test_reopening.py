"""A store that changes while it is served: no request fails, and what is new is found."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mcontriever import index as index_verb
from mcontriever.assembly import served_stores
from mcontriever.encoder import Encoder
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.store import store_edits
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import make_store, write_lines
from tests.serving.conftest import DOCUMENTS, Serve

SECONDS = 60


@pytest.fixture
def folder(tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(served_stores, "WATCH_SECONDS", 0.02)
    return make_store(tmp_path / "s", DOCUMENTS[:40], encoder, model=str(tiny_encoder_dir), shard_documents=10).folder


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def card_of(client: TestClient) -> dict[str, object]:
    card: dict[str, object] = client.get("/stores").json()["stores"][0]
    return card


def test_append_delete_compact_and_index_under_load(
    serve: Serve, folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    client = serve({"s": folder})
    failed: list[str] = []
    answered = [0]
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            for mode in ("dense", "hybrid", "bm25"):
                answer = client.get("/search", params={"query": "telescope", "mode": mode})
                answered[0] += 1
                if answer.status_code != 200 or not answer.json()["hits"]:
                    failed.append(answer.text)

    def best() -> str:
        hits = client.get("/search", params={"query": "zebra crossing", "mode": "bm25"}).json()["hits"]
        return str(hits[0]["id"]) if hits else ""

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        more = write_lines(tmp_path / "more.jsonl", [*DOCUMENTS[40:], Document("new", "a zebra crossing", "", "en")])
        embed(EmbeddingRequest(str(more), folder, mode="append"), encoder=encoder)
        wait_for(lambda: card_of(client)["documents"] == 61)
        assert best() == "new"
        store_edits.delete(folder, ["new", *(document.id for document in DOCUMENTS[:15])])
        store_edits.compact(folder)
        wait_for(lambda: card_of(client)["documents"] == 45)
        assert best() == ""
        before = card_of(client)["reopened"]
        index_verb.run(folder, kind="ivf-sq", memory_mb=50)
        wait_for(lambda: card_of(client)["reopened"] != before)
        answer = client.get("/search", params={"query": "telescope", "index": "ivf-sq", "mode": "dense"})
        assert answer.status_code == 200, answer.text
        indexes = client.get("/stats").json()["indexes"]
        assert next(one for one in indexes if one["kind"] == "ivf-sq")["recall_at_10"] > 0.5
    finally:
        done.set()
        asking.join()
    assert not failed
    assert answered[0] > 10


def test_a_search_that_meets_a_compaction_is_repeated_on_the_new_files(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_stores, "WATCH_SECONDS", 1000)
    client = serve({"s": folder})
    store_edits.delete(folder, [document.id for document in DOCUMENTS[5:30]])
    store_edits.compact(folder)
    hits = client.get("/search", params={"query": "telescope", "k": 40}).json()["hits"]
    assert {hit["id"] for hit in hits} == {document.id for document in (*DOCUMENTS[:5], *DOCUMENTS[30:40])}


def test_a_store_that_is_gone_and_comes_back(serve: Serve, folder: Path, tmp_path: Path) -> None:
    client = serve({"s": folder})
    assert client.get("/stats").status_code == 200
    folder.rename(tmp_path / "elsewhere")
    wait_for(lambda: client.get("/health").status_code == 503)
    for path in ("/search?query=telescope", "/stats"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the store 's' is not there any more"
        assert str(tmp_path) not in answer.text
    (tmp_path / "elsewhere").rename(folder)
    wait_for(lambda: client.get("/health").status_code == 200)
    assert client.get("/search?query=telescope").status_code == 200


def test_a_store_that_cannot_be_opened_is_served_as_it_was(serve: Serve, folder: Path, tmp_path: Path) -> None:
    client = serve({"s": folder})
    whole = shutil.copy(folder / "manifest.json", tmp_path / "kept.json")
    (folder / "manifest.json").write_text("{}")
    time.sleep(0.2)
    assert client.get("/search?query=telescope").status_code == 200
    shutil.copy(whole, folder / "manifest.json")
    wait_for(lambda: card_of(client)["reopened"] == 1)


@pytest.mark.parametrize("way", ["written in place", "renamed into place"])
def test_a_shard_cut_while_it_is_served_is_refused_until_it_is_whole(
    serve: Serve, folder: Path, tmp_path: Path, way: str
) -> None:
    """To read the end of a mapped file that is not there any more would end the process."""
    client = serve({"s": folder})
    shard = folder / "vectors-00001.npy"
    whole = shard.read_bytes()
    os.truncate(shard, 0)
    wait_for(lambda: client.get("/health").status_code == 503)
    for mode in ("dense", "hybrid"):
        answer = client.get("/search", params={"query": "telescope", "mode": mode})
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "vectors-00001.npy of the store 's' was cut while it was served"
        assert "verify STORE --repair" in answer.json()["error"]["fix"]
    if way == "written in place":
        shard.write_bytes(whole)
    else:
        (tmp_path / "whole").write_bytes(whole)
        (tmp_path / "whole").rename(shard)
    wait_for(lambda: client.get("/health").status_code == 200)
    assert client.get("/search", params={"query": "telescope", "mode": "dense"}).json()["hits"]


def test_a_shard_replaced_by_renaming_is_no_danger(serve: Serve, folder: Path, tmp_path: Path) -> None:
    client = serve({"s": folder})
    before = client.get("/search", params={"query": "telescope", "mode": "dense"}).json()["hits"]
    (tmp_path / "shorter").write_bytes(b"")
    (tmp_path / "shorter").rename(folder / "vectors-00001.npy")
    time.sleep(0.2)
    assert client.get("/search", params={"query": "telescope", "mode": "dense"}).json()["hits"] == before
