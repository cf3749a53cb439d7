"""store_check.py: damage anywhere is found and named, and made again from what is left."""

from pathlib import Path

import numpy as np
import pytest

from mcontriever import verify
from mcontriever.encoder import Encoder
from mcontriever.errors import StoreError
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.store import store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_check import find_damage
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import all_ids, all_vectors, make_store, mixed_documents, write_lines

DOCUMENTS = mixed_documents(40)


@pytest.fixture
def store(tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path) -> EmbeddingStore:
    return make_store(tmp_path / "s", DOCUMENTS, encoder, model=str(tiny_encoder_dir), dtype="int8", shard_documents=10)


def flip_a_byte(path: Path, place: int = -9) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["vectors-00002.npy", "scales-00000.npy", "documents-00001.parquet"])
@pytest.mark.parametrize("harm", ["a flipped byte", "a cut end", "a missing file"])
def test_damage_is_found_named_and_made_again(store: EmbeddingStore, name: str, harm: str) -> None:
    vectors, path = all_vectors(store), store.folder / name
    whole = path.read_bytes()
    expected = {"a flipped byte": "checksum", "a cut end": "bytes, the manifest says", "a missing file": "missing"}[
        harm
    ]
    if harm == "a flipped byte":
        flip_a_byte(path)
    elif harm == "a cut end":
        path.write_bytes(whole[:-5])
    else:
        path.unlink()
    with pytest.raises(StoreError, match=rf"1 of 12 files are damaged:\n  {name}: .*{expected}"):
        verify.run(store.folder)
    number = path.stem[-5:]
    others = [file for file in store.folder.iterdir() if file.stem[-6:-5] == "-" and number not in file.name]
    times = [file.stat().st_mtime_ns for file in others]
    verify.run(store.folder, repair=True)
    repaired = EmbeddingStore.open(store.folder)
    assert all_ids(repaired) == [document.id for document in DOCUMENTS]
    np.testing.assert_allclose(all_vectors(repaired), vectors, atol=np.abs(vectors).max() / 100)
    assert [file.stat().st_mtime_ns for file in others] == times
    verify.run(store.folder)


def test_deleted_and_empty_documents_stay_away_after_a_repair(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path
) -> None:
    documents = [*DOCUMENTS[:10], Document("empty", " "), *DOCUMENTS[10:]]
    store = make_store(tmp_path / "s", documents, encoder, model=str(tiny_encoder_dir), passage_words=8)
    store_edits.delete(store.folder, ["d3", "d20"])
    store_edits.compact(store.folder)
    before = EmbeddingStore.open(store.folder).table(0).to_pylist()
    flip_a_byte(next(store.folder.glob("documents-*.parquet")), place=100)
    verify.run(store.folder, repair=True)
    assert EmbeddingStore.open(store.folder).table(0).to_pylist() == before
    assert {"d3", "d20", "empty"}.isdisjoint(row["id"] for row in before)


def test_a_repair_needs_the_corpus_as_it_was(store: EmbeddingStore) -> None:
    corpus = store.folder.with_suffix(".jsonl")
    flip_a_byte(store.folder / "documents-00001.parquet")
    corpus.write_bytes(corpus.read_bytes().replace(b"d12", b"d99"))
    with pytest.raises(StoreError, match="the corpus has changed since it was embedded"):
        verify.run(store.folder, repair=True)
    corpus.unlink()
    with pytest.raises(StoreError, match="the repair needs the corpus, and it is not there"):
        verify.run(store.folder, repair=True)


def test_a_repair_refuses_another_encoder(store: EmbeddingStore, tmp_path: Path, tiny_encoder_dir: Path) -> None:
    other = Encoder.load(tiny_encoder_dir, max_length=32)
    other.save(tmp_path / "other")
    flip_a_byte(store.folder / "vectors-00001.npy")
    with pytest.raises(StoreError, match=r"another encoder[\s\S]*max_length 128 against 32"):
        verify.run(store.folder, repair=True, model=str(tmp_path / "other"))


def test_a_damaged_list_of_deleted_rows_cannot_be_guessed(store: EmbeddingStore) -> None:
    store_edits.delete(store.folder, ["d1"])
    flip_a_byte(next(store.folder.glob("deleted-*.npy")))
    with pytest.raises(StoreError, match=r"deleted-00002\.npy: its content"):
        verify.run(store.folder)
    with pytest.raises(StoreError, match="the list of deleted rows is damaged"):
        verify.run(store.folder, repair=True)


def test_a_run_under_way_is_checked_and_mended_too(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.retrieval.store.test_store_runs import stop_after

    stop_after(monkeypatch, shards=2)
    with pytest.raises(KeyboardInterrupt):
        make_store(tmp_path / "s", DOCUMENTS, encoder, shard_documents=10)
    monkeypatch.undo()
    assert find_damage(tmp_path / "s") == ([], 4)
    flip_a_byte(tmp_path / "s" / "vectors-00001.npy")
    with pytest.raises(StoreError, match="1 of 4 files are damaged"):
        verify.run(tmp_path / "s")
    verify.run(tmp_path / "s", repair=True)
    store = make_store(tmp_path / "s", DOCUMENTS, encoder, shard_documents=10)
    assert find_damage(store.folder) == ([], 8)


def test_a_repair_leaves_an_append_under_way_alone(
    store: EmbeddingStore, encoder: Encoder, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.retrieval.store.test_store_runs import stop_after

    corpus = write_lines(store.folder.parent / "more.jsonl", mixed_documents(30, prefix="more"))
    request = EmbeddingRequest(
        str(corpus), store.folder, model=str(tiny_encoder_dir), mode="append", shard_documents=10
    )
    stop_after(monkeypatch, shards=2)
    with pytest.raises(KeyboardInterrupt):
        embed(request, encoder=encoder)
    monkeypatch.undo()
    flip_a_byte(store.folder / "vectors-00001.npy")
    verify.run(store.folder, repair=True)
    done = (store.folder / "vectors-00004.npy").stat().st_mtime_ns
    embed(request, encoder=encoder)
    assert (store.folder / "vectors-00004.npy").stat().st_mtime_ns == done
    assert len(EmbeddingStore.open(store.folder)) == 70
