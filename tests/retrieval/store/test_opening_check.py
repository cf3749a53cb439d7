"""opening_check.py and derived.py: damage to a file, accidental or not, is reported before anything is searched."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mcontriever import index as verb
from mcontriever.encoder import Encoder
from mcontriever.errors import StoreError
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.lexical_index import open_lexical_index
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import derived, store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.faiss_index import FaissIndex
from tests.retrieval.small_corpora import make_store, mixed_documents

DOCUMENTS = mixed_documents(40)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "whole"
    make_store(folder, DOCUMENTS, encoder, dtype="fp16", shard_documents=20)
    store_edits.delete(folder, ["d3"])
    return folder


@pytest.fixture
def store(tmp_path: Path, whole: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s"))


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object], trust_files: bool = False) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    if trust_files:  # as version 0.1.0 wrote it
        for shard in manifest["shards"]:
            for entry in shard["files"].values():
                entry["edges"] = None
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def vectors_as(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Other vectors in a file of the same size, in a store that knows no checksum of edges."""

    def harm(folder: Path) -> None:
        path = folder / "vectors-00000.npy"
        size = path.stat().st_size
        np.save(path, change(np.load(path)))
        data = path.read_bytes()
        path.write_bytes(data[:size].ljust(size, b"\0"))
        change_manifest(folder, lambda _: None, trust_files=True)

    return harm


def header_as(text: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        path = folder / "vectors-00000.npy"
        data = bytearray(path.read_bytes())
        header = text.encode().ljust(117) + b"\n"
        path.write_bytes(bytes(data[:10]) + header + bytes(data[128:]))
        change_manifest(folder, lambda _: None, trust_files=True)

    return harm


def swap_shards(folder: Path) -> None:
    first, second = folder / "vectors-00000.npy", folder / "vectors-00001.npy"
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)


def other_table(folder: Path) -> None:
    path = folder / "documents-00000.parquet"
    size = path.stat().st_size
    parquet.write_table(pa.table({"id": list(range(20))}), path)
    change_manifest(folder, lambda _: None, trust_files=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["files"][path.name]["bytes"] = path.stat().st_size
    assert path.stat().st_size != size
    (folder / "manifest.json").write_text(json.dumps(manifest))


def deleted_as(array: np.ndarray) -> Callable[[Path], None]:
    """A list of deleted rows with a checksum that fits."""

    def harm(folder: Path) -> None:
        from mcontriever.disk import sha256_of

        path = next(folder.glob("deleted-*.npy"))
        np.save(path, array, allow_pickle=array.dtype == object)
        entry = {"bytes": path.stat().st_size, "sha256": sha256_of(path), "edges": None}
        change_manifest(folder, lambda manifest: manifest["deleted"].update(entry))

    return harm


HEADER = "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}"
HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "swapped shards": (swap_shards, "is not the file that was written"),
    "other integers": (header_as(HEADER.format("'<i2'", "False", "(20, 32)")), "the array is int16"),
    "Fortran order": (header_as(HEADER.format("'<f2'", "True", "(20, 32)")), "in Fortran order"),
    "fewer rows": (vectors_as(lambda rows: rows[:10]), r"the array is float16 \(10, 32\)"),
    "strings": (header_as(HEADER.format("'S2'", "False", "(20, 32)")), r"the array is \|S2"),
    "negative rows": (header_as(HEADER.format("'<f2'", "False", "(-20, 32)")), r"the array is float16 \(-20, 32\)"),
    "no shape": (header_as(HEADER.format("'<f2'", "False", "()")), r"the array is float16 \(\)"),
    "objects": (header_as(HEADER.format("'|O'", "False", "(20, 32)")), "the array is object"),
    "a deep header": (header_as("(" * 100), "cannot be read"),
    "no header": (header_as(""), "cannot be read"),
    "other columns": (other_table, "the column id has type int64; expected string"),
    "a path out": (
        lambda folder: change_manifest(
            folder, lambda m: m["shards"][0]["files"].update({"../../passwd": {"bytes": 1, "sha256": ""}})
        ),
        r"damaged: shards.0: .*the files are .*\.\./\.\./passwd.*they must be among documents-00000",
    ),
    "a deleted list elsewhere": (
        lambda folder: change_manifest(folder, lambda m: m["deleted"].update(name="/etc/passwd")),
        "damaged: deleted.name",
    ),
    "a trillion rows": (
        lambda folder: change_manifest(folder, lambda m: m["shards"][0].update(rows=10**12)),
        r"the manifest says float16 \(1000000000000, 32\)",
    ),
    "a negative count": (
        lambda folder: change_manifest(folder, lambda m: m["shards"][0].update(rows=-1)),
        "damaged: shards.0.rows",
    ),
    "no vectors": (
        lambda folder: change_manifest(folder, lambda m: m["shards"][0]["files"].pop("vectors-00000.npy")),
        "shard 0 has no vectors-00000.npy",
    ),
    "a folder as manifest": (
        lambda folder: ((folder / "manifest.json").unlink(), (folder / "manifest.json").mkdir()),
        "cannot be read: Is a directory",
    ),
    "a list as manifest": (lambda folder: (folder / "manifest.json").write_text("[]"), "not the manifest of a store"),
    "pickled deleted rows": (deleted_as(np.array([{}], dtype=object)), "cannot be read: .*Python objects"),
    "deleted rows that are not there": (deleted_as(np.array([40])), "is not a list of this store's 40 rows"),
    "deleted rows below 0": (deleted_as(np.array([-1])), "is not a list of this store's 40 rows"),
    "deleted rows as floats": (deleted_as(np.array([1.0])), "is not a list of this store's 40 rows"),
}


@pytest.mark.parametrize("name", HARMS)
def test_damage_is_reported_before_anything_is_searched(store: Path, encoder: Encoder, name: str) -> None:
    harm, expected = HARMS[name]
    harm(store)
    with pytest.raises(StoreError, match=expected) as caught:
        Index.open(store, encoder=encoder).search("rain", mode="bm25")
    assert caught.value.where
    assert caught.value.fix


def test_what_was_not_harmed_opens_also_without_checksums_of_edges(store: Path) -> None:
    change_manifest(store, lambda _: None, trust_files=True)
    assert len(EmbeddingStore.open(store)) == 40


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 127), value=st.integers(0, 255))
@example(place=8, value=61)  # the header's length, without its blanks
def test_any_byte_of_a_header(whole: Path, tmp_path: Path, place: int, value: int) -> None:
    """The array is what it was, or the store does not open: also where edges are not known."""
    folder = tmp_path / "s"
    if not folder.exists():
        shutil.copytree(whole, folder)
    path = folder / "vectors-00000.npy"
    data = bytearray((whole / path.name).read_bytes())
    data[place] = value
    path.write_bytes(data)
    change_manifest(folder, lambda _: None, trust_files=True)
    try:
        taken = EmbeddingStore.open(folder).take(np.arange(20))
    except StoreError:
        return
    np.testing.assert_array_equal(taken, EmbeddingStore.open(whole).take(np.arange(20)))


@pytest.mark.parametrize("place", [0, 50, 300, -300, -50, -1])
def test_any_damage_of_a_parquet_file_is_a_store_error(whole: Path, store: Path, place: int) -> None:
    path = store / "documents-00000.parquet"
    data = bytearray(path.read_bytes())
    for number in range(20):
        data[(place + number) % len(data)] ^= 0x55
    path.write_bytes(data)
    change_manifest(store, lambda _: None, trust_files=True)
    expected = EmbeddingStore.open(whole).rows_shown(np.arange(20), ["id", "language"])
    try:
        shown = EmbeddingStore.open(store).rows_shown(np.arange(20), ["id", "language"])
    except StoreError:
        return
    assert shown == expected  # the damage is in another column


@pytest.mark.parametrize("name", ["language", "id_hash"])
def test_a_column_without_some_of_its_values_is_told(store: Path, encoder: Encoder, name: str) -> None:
    path = store / "documents-00000.parquet"
    table = parquet.read_table(path)
    field = table.schema.field(name)
    values = [None, *table[name].to_pylist()[1:]]
    table = table.set_column(table.column_names.index(name), field, pa.array(values, field.type))
    parquet.write_table(table, path, row_group_size=1000, compression="zstd")

    def with_its_size(manifest: dict[str, Any]) -> None:
        manifest["shards"][0]["files"][path.name]["bytes"] = path.stat().st_size

    change_manifest(store, with_its_size, trust_files=True)
    read = {
        "language": lambda: Index.open(store, encoder=encoder).search("rain"),
        "id_hash": lambda: store_edits.delete(store, ["d5"]),
    }[name]
    with pytest.raises(StoreError, match=f"the column {name} lacks 1 of its values"):
        read()


def damaged(path: Path, harm: str) -> None:
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-3], "empty": b"", "flipped": bytes([*data[:-1], data[-1] ^ 0x40])}[harm])


@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "flipped"])
def test_a_damaged_bm25_index_is_made_again(store: Path, harm: str) -> None:
    opened = EmbeddingStore.open(store)
    expected = open_lexical_index(opened, "words").search(["telescope rain"], 5)
    folder = derived.folder_of(opened, "bm25-words")
    for path in sorted(folder.iterdir()):
        damaged(path, harm)
        found = open_lexical_index(opened, "words").search(["telescope rain"], 5)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "flipped"])
def test_a_damaged_bm25_index_of_the_last_version_is_one_clear_error(store: Path, harm: str) -> None:
    opened = EmbeddingStore.open(store)
    open_lexical_index(opened, "words")
    folder = derived.folder_of(opened, "bm25-words")
    facts = json.loads((folder / "manifest.json").read_text())
    del facts["files"]
    (folder / "manifest.json").write_text(json.dumps(facts))
    damaged(folder / "params.index.json", harm)
    with pytest.raises(StoreError, match=r"the BM25 index cannot be read[\s\S]*remove this folder"):
        open_lexical_index(opened, "words")


@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "flipped"])
def test_a_damaged_faiss_index_is_named(store: Path, encoder: Encoder, harm: str) -> None:
    verb.run(store, kind="flat")
    opened = EmbeddingStore.open(store)
    damaged(derived.folder_of(opened, "flat") / "index.faiss", harm)
    with pytest.raises(StoreError, match=r"the flat index is damaged: index\.faiss[\s\S]*--kind flat"):
        DenseSearch.open(opened, encoder, 1 << 28, index="flat")


def test_an_index_of_another_store_or_no_index(store: Path, encoder: Encoder) -> None:
    opened = EmbeddingStore.open(store)
    with pytest.raises(StoreError, match="no index can have the name"):
        DenseSearch.open(opened, encoder, 1 << 28, index="../flat")
    open_lexical_index(opened, "words")
    with pytest.raises(StoreError, match="bm25-words is not an index of vectors"):
        DenseSearch.open(opened, encoder, 1 << 28, index="bm25-words")
    verb.run(store, kind="flat")
    path = derived.folder_of(opened, "flat") / "manifest.json"
    facts = json.loads(path.read_text())
    with pytest.raises(StoreError, match="and effort x"):
        FaissIndex.open(opened, opened, "flat", {**facts, "effort": "x"})
    path.write_text("[]")
    with pytest.raises(StoreError, match="not the manifest of an index"):
        DenseSearch.open(opened, encoder, 1 << 28, index="flat")
    assert len(Index(opened, encoder=encoder).search("rain", k=3)) == 3  # auto does without
