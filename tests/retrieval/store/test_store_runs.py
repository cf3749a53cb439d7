"""Changing a store: append, replace, delete, compact; what is refused; and how an unfinished run resumes."""

import os
from pathlib import Path

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.errors import DataError, StoreError
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.store import store_edits, store_runs
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_check import find_damage
from mcontriever.retrieval.store.store_manifest import read_plan
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import all_ids, all_vectors, make_store, mixed_documents, write_lines

DOCUMENTS = mixed_documents(60)


def live_ids(store: EmbeddingStore) -> list[str]:
    ids = np.array(all_ids(store))
    return ids.tolist() if store.live_N is None else ids[store.live_N].tolist()


def add(folder: Path, documents: list[Document], encoder: Encoder | None, mode: str) -> EmbeddingStore:
    corpus = write_lines(folder.parent / f"more-{len(os.listdir(folder.parent))}.jsonl", documents)
    embed(EmbeddingRequest(str(corpus), folder, model="tiny" if encoder else "bm25", mode=mode), encoder=encoder)  # type: ignore[arg-type]
    return EmbeddingStore.open(folder)


def test_append_replace_delete_compact(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:30], encoder, shard_documents=10)
    store = add(store.folder, DOCUMENTS[30:], encoder, "append")
    assert live_ids(store) == [document.id for document in DOCUMENTS]
    assert store.manifest.generation == 2

    changed = [Document("d5", "new text"), Document("d45", "other new text"), Document("x", "added")]
    store = add(store.folder, changed, encoder, "replace")
    kept = [document.id for document in DOCUMENTS if document.id not in ("d5", "d45")]
    assert live_ids(store) == [*kept, "d5", "d45", "x"]
    assert store.manifest.documents == 61
    np.testing.assert_allclose(all_vectors(store)[-2], encoder.embed_documents(["other new text"])[0], atol=2e-3)

    assert store_edits.delete(store.folder, ["d0", "x", "nobody", "d0"], missing_ok=True) == (2, ["nobody"])
    assert store_edits.delete(store.folder, ["d0"], missing_ok=True) == (0, ["d0"])
    store = EmbeddingStore.open(store.folder)
    survivors = [name for name in [*kept, "d5", "d45"] if name != "d0"]
    assert live_ids(store) == survivors

    before = dict(zip(all_ids(store), all_vectors(store), strict=True))
    assert store_edits.compact(store.folder) > 0
    store = EmbeddingStore.open(store.folder)
    assert store.manifest.deleted is None
    assert all_ids(store) == survivors
    for name, vector in zip(all_ids(store), all_vectors(store), strict=True):
        np.testing.assert_array_equal(vector, before[name])
    assert find_damage(store.folder)[0] == []
    assert store_edits.compact(store.folder) == 0
    add(store.folder, [Document("d0", "back again")], encoder, "append")


def test_a_document_replaced_by_an_empty_one_is_gone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:5], None)
    store = add(store.folder, [Document("d2", " "), Document("y", "text")], None, "replace")
    assert live_ids(store) == ["d0", "d1", "d3", "d4", "y"]


def test_empty_documents_are_left_out_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    documents = [DOCUMENTS[0], Document("e1", ""), Document("titled", "", "only a title"), Document("e2", "\n")]
    store = make_store(tmp_path / "s", documents, None)
    assert all_ids(store) == ["d0", "titled"]
    assert store.manifest.runs[0].empty == 2
    assert store.manifest.shards[0].empty_ids == ["e1", "e2"]


def test_what_an_existing_store_refuses(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], encoder)
    manifest = (store.folder / "manifest.json").read_bytes()
    with pytest.raises(StoreError, match=r"a store of 10 documents is here already[\s\S]*--append or --replace"):
        add(store.folder, DOCUMENTS[20:25], encoder, "new")
    with pytest.raises(DataError, match=r"the id 'd9' is in the store already[\s\S]*:3, and "):
        add(store.folder, [DOCUMENTS[20], DOCUMENTS[21], DOCUMENTS[9]], encoder, "append")
    with pytest.raises(StoreError, match=r"made by another encoder: tiny \(fingerprint \w{12}\), not bm25"):
        add(store.folder, DOCUMENTS[20:25], None, "append")
    corpus = write_lines(tmp_path / "c.jsonl", DOCUMENTS[20:25])
    with pytest.raises(StoreError, match="the store has dtype fp16, not int8"):
        embed(EmbeddingRequest(str(corpus), store.folder, mode="append", dtype="int8"), encoder=encoder)
    assert (store.folder / "manifest.json").read_bytes() == manifest
    assert read_plan(store.folder) is None


def test_another_encoder_is_named_with_what_differs(tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], encoder)
    shorter = Encoder.load(tiny_encoder_dir, max_length=64)
    with pytest.raises(StoreError, match=r"another encoder[\s\S]*max_length 128 against 64"):
        add(store.folder, DOCUMENTS[20:25], shorter, "append")


def test_the_same_run_again_does_nothing_and_a_changed_corpus_is_noticed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], None)
    before = (store.folder / "manifest.json").read_bytes()
    make_store(tmp_path / "s", DOCUMENTS[:10], None)  # the file is written anew, with the same content
    assert (store.folder / "manifest.json").read_bytes() == before
    with pytest.raises(StoreError, match=r"s\.jsonl has changed since it was embedded[\s\S]*--replace"):
        make_store(tmp_path / "s", DOCUMENTS[:11], None)


def stop_after(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    """Let the run end with an error when so many shards are written."""
    from mcontriever.retrieval.embedding import shard_embedding

    write_shard, written = store_runs.write_shard, iter(range(shards))

    def limited(*arguments, **named):  # type: ignore[no-untyped-def]
        if next(written, None) is None:
            raise KeyboardInterrupt
        return write_shard(*arguments, **named)

    monkeypatch.setattr(shard_embedding, "write_shard", limited)


def test_an_unfinished_run_is_refused_to_others_and_continues(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, shards=2)
    with pytest.raises(KeyboardInterrupt):
        make_store(tmp_path / "s", DOCUMENTS, encoder, shard_documents=10)
    monkeypatch.undo()
    with pytest.raises(StoreError, match=r"not complete: 2 of 6 shards are done[\s\S]*same mcontriever embed command"):
        EmbeddingStore.open(tmp_path / "s")
    with pytest.raises(StoreError, match=r"an unfinished new of .*s\.jsonl is under way here: 2 of 6"):
        add(tmp_path / "s", DOCUMENTS[:3], encoder, "new")
    first = (tmp_path / "s" / "vectors-00000.npy").stat().st_mtime_ns
    store = make_store(tmp_path / "s", DOCUMENTS, encoder, shard_documents=10)
    assert (tmp_path / "s" / "vectors-00000.npy").stat().st_mtime_ns == first
    assert all_ids(store) == [document.id for document in DOCUMENTS]


def test_an_unfinished_append_leaves_the_store_as_it_was_and_can_be_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], None)
    corpus = write_lines(tmp_path / "c.jsonl", DOCUMENTS[10:])
    request = EmbeddingRequest(str(corpus), store.folder, mode="append", shard_documents=10)
    stop_after(monkeypatch, shards=3)
    with pytest.raises(KeyboardInterrupt):
        embed(request)
    monkeypatch.undo()
    assert all_ids(EmbeddingStore.open(store.folder)) == [document.id for document in DOCUMENTS[:10]]
    with pytest.raises(StoreError, match="an unfinished append"):
        store_edits.delete(store.folder, ["d0"])
    write_lines(corpus, DOCUMENTS[10:20])
    with pytest.raises(StoreError, match=r"c\.jsonl has changed[\s\S]*--restart"):
        embed(request)
    embed(EmbeddingRequest(str(corpus), store.folder, mode="append", shard_documents=10, restart=True))
    assert all_ids(EmbeddingStore.open(store.folder)) == [document.id for document in DOCUMENTS[:20]]
    assert not list(store.folder.glob("shard-*.json"))


def test_a_kill_between_the_manifest_and_the_sweeping_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_runs, "sweep", killed)
    with pytest.raises(KeyboardInterrupt):
        make_store(tmp_path / "s", DOCUMENTS, None, shard_documents=10)
    monkeypatch.undo()
    assert all_ids(EmbeddingStore.open(tmp_path / "s")) == [document.id for document in DOCUMENTS]
    store = make_store(tmp_path / "s", DOCUMENTS, None, shard_documents=10)
    assert not list(store.folder.glob("shard-*.json"))
    assert read_plan(store.folder) is None


def test_a_corpus_that_changes_every_day_is_replaced_every_day(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], None)
    corpus = tmp_path / "s.jsonl"
    request = EmbeddingRequest(str(corpus), store.folder, mode="replace")
    for day in range(3):
        write_lines(corpus, [*DOCUMENTS[:10], Document("d3", f"of day {day}"), Document(f"new{day}", "x")][4:])
        embed(request)
        embed(request)  # the second time there is nothing to do
        store = EmbeddingStore.open(store.folder)
        assert store.manifest.generation == day + 2
        assert live_ids(store).count("d3") == 1
        assert store.manifest.documents == 11 + day
    assert len({run.id for run in store.manifest.runs}) == 4
    assert find_damage(store.folder)[0] == []
