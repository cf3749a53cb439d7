"""embedding_store.py and shard_files.py: what was embedded comes back, in every vector type."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.errors import ModelError, StoreError
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.passages import Passage
from mcontriever.retrieval.store.shard_files import shard_arrays
from mcontriever.retrieval.store.store_manifest import VectorType
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import all_ids, all_vectors, make_store, mixed_documents, unit_rows

DOCUMENTS = mixed_documents(90)


def test_vectors_are_the_encoders(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    expected = encoder.embed_documents([document.full_text for document in DOCUMENTS])
    np.testing.assert_allclose(all_vectors(mixed_store), expected, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate(list(mixed_store.pieces(0, 90))), all_vectors(mixed_store))
    np.testing.assert_array_equal(np.concatenate(list(mixed_store.pieces(20, 77))), all_vectors(mixed_store)[20:77])
    rows = np.array([77, 3, 50, 3, 89])
    np.testing.assert_array_equal(mixed_store.take(rows), all_vectors(mixed_store)[rows])


def test_threads_may_read_at_once(tmp_path: Path, encoder: Encoder) -> None:
    """Opening two arrays at once fails now and then in Python 3.11, and often with quick turns."""
    folder = tmp_path / "store"
    make_store(folder, DOCUMENTS, encoder, model="tiny", dtype="int8", shard_documents=2)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            store = EmbeddingStore.open(folder)
            with ThreadPoolExecutor(4) as pool:
                found = list(pool.map(lambda _, store=store: len(list(store.pieces(0, 90))), range(4)))
            assert found == [45] * 4
    finally:
        sys.setswitchinterval(before)


def test_documents_come_back_in_order_and_by_row(mixed_store: EmbeddingStore) -> None:
    columns = ["id", "title", "text", "language", "part"]
    shown = mixed_store.rows_shown(np.array([60, 0, 60, 26]), columns)
    expected = [DOCUMENTS[row] for row in (60, 0, 60, 26)]
    assert shown == [
        {"id": d.id, "title": d.title, "text": d.text, "language": d.language, "part": 0} for d in expected
    ]
    assert all_ids(mixed_store) == [document.id for document in DOCUMENTS]
    codes, names = mixed_store.languages
    assert [names[code] for code in codes] == [document.language for document in DOCUMENTS]
    titles_and_texts = [pair for batch in mixed_store.text_batches(7) for pair in zip(*batch, strict=True)]
    assert titles_and_texts == [(document.title, document.text) for document in DOCUMENTS]


@pytest.mark.parametrize("kept", [1, 32])
def test_rows_of_many_groups_are_shown(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """Read in one go or group by group."""
    for module in ("shard_files", "embedding_store"):
        monkeypatch.setattr(f"mcontriever.retrieval.store.{module}.ROWS_PER_GROUP", 3)
    monkeypatch.setattr("mcontriever.retrieval.store.embedding_store.GROUPS_KEPT", kept)
    store = make_store(tmp_path / "s", DOCUMENTS[:40], encoder)
    for rows in ([39, 0, 5, 3, 39, 17, 38], [2, 1], [7, 4], []):
        shown = store.rows_shown(np.array(rows, dtype=np.int64), ["id"])
        assert [row["id"] for row in shown] == [DOCUMENTS[row].id for row in rows]


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 0.0), ("fp16", 2.0**-11), ("int8", 0.5 / 127 * 1.001)])
def test_vector_types_lose_no_more_than_their_bits(
    tmp_path: Path, encoder: Encoder, dtype: VectorType, tolerance: float
) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:40], encoder, dtype=dtype)
    exact = all_vectors(make_store(tmp_path / "exact", DOCUMENTS[:40], encoder, dtype="fp32"))
    largest = np.abs(exact) if dtype == "fp16" else np.abs(exact).max(axis=1, keepdims=True)
    assert (np.abs(all_vectors(store) - exact) <= tolerance * largest + 1e-7).all()
    pieces = np.concatenate([np.asarray(piece, dtype=np.float32) for piece in store.pieces(0, 40)])
    np.testing.assert_array_equal(pieces, all_vectors(store))


def test_rows_of_zeros_and_unequal_scales_survive_int8() -> None:
    vectors = unit_rows(np.random.default_rng(0), 4, 8) * np.array([[1e-6], [1.0], [1e4], [0.0]], dtype=np.float32)
    passages = [Passage(Document(str(row), "x"), 0, "x") for row in range(4)]
    arrays = shard_arrays(vectors, passages, "int8")
    restored = arrays["vectors"] * arrays["scales"][:, None]
    assert (np.abs(restored - vectors) <= np.abs(vectors).max(axis=1, keepdims=True) / 250).all()


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "fp32"), (np.inf, "int8"), (1e5, "fp16")])
def test_values_that_cannot_be_kept_name_their_document(value: float, dtype: VectorType) -> None:
    vectors = np.ones((3, 4), dtype=np.float32)
    vectors[1, 2] = value
    passages = [Passage(Document(name, "x"), 0, "x") for name in "abc"]
    with pytest.raises(ModelError, match=f"the embedding of document 'b' has values that {dtype} cannot hold"):
        shard_arrays(vectors, passages, dtype)


def test_a_store_without_texts_keeps_none(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:5], encoder, keeps_text=False)
    assert store.table(0).column_names == ["id", "id_hash", "language", "part"]


def test_a_cut_or_missing_file_is_named_on_opening(tmp_path: Path, encoder: Encoder) -> None:
    make_store(tmp_path / "s", DOCUMENTS[:40], encoder, shard_documents=20)
    path = tmp_path / "s" / "vectors-00001.npy"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 10)
    with pytest.raises(StoreError, match=rf"vectors-00001\.npy has {size - 10:,} bytes, the manifest says {size:,}"):
        EmbeddingStore.open(tmp_path / "s")
    path.unlink()
    with pytest.raises(StoreError, match=r"vectors-00001\.npy is missing[\s\S]*verify STORE --repair"):
        EmbeddingStore.open(tmp_path / "s")


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store here \(no manifest\.json\)"):
        EmbeddingStore.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"windows": 3}')
    with pytest.raises(StoreError, match="not the manifest of a store"):
        EmbeddingStore.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "mcontriever store", "version": 9}')
    with pytest.raises(StoreError, match="the store has version 9, this mcontriever reads 1"):
        EmbeddingStore.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "mcontriever store", "version": 1, "generation": "x"}')
    with pytest.raises(StoreError, match="damaged: generation"):
        EmbeddingStore.open(tmp_path)
