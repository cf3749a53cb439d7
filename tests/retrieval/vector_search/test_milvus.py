"""milvus.py against Milvus Lite and, where its package can be installed, a standalone server: both give exact rows."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever import index as verb
from mcontriever.disk import write_json
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, HubError, StoreError
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.language_filter import rows_in_languages
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import derived, store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.milvus import (
    MilvusIndex,
    language_filter,
    split_credentials,
    token_of_environment,
)
from mcontriever.retrieval.vector_search.vectors import FindRows
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import all_vectors, make_store, mixed_documents, write_lines
from tests.retrieval.vector_search.standalone_milvus import standalone_milvus

pytestmark = pytest.mark.long(30)
pytest.importorskip("milvus_lite")
MEMORY = 1 << 28


def finder(store: EmbeddingStore, index: str) -> FindRows:
    encoder: Any = None  # it is not asked
    return DenseSearch.open(store, encoder, MEMORY, index=index).find


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("milvus", reason="no standalone server of Milvus: the package milvus brings one for x86-64")
    with standalone_milvus(tmp_path_factory.mktemp("milvus")) as address:
        yield address


@pytest.fixture(params=["lite", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "lite.db") if request.param == "lite" else request.getfixturevalue("server")


def test_milvus_returns_what_exact_search_returns(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, uri: str
) -> None:
    store = make_store(tmp_path / "s", mixed_documents(60), encoder, model=str(tiny_encoder_dir), shard_documents=25)
    store_edits.delete(store.folder, ["d3"])
    store = EmbeddingStore.open(store.folder)
    with contextlib.chdir(tmp_path):  # the path of a file may be relative
        verb.run(store.folder, kind="milvus", uri=uri.removeprefix(f"{tmp_path}/"))
    milvus = finder(store, "milvus")
    exact = finder(store, "exact")
    queries = all_vectors(store)[:8]
    swahili = rows_in_languages(store, ["sw"])
    store_edits.delete(store.folder, ["d10"])  # after filling: sorted out when searching
    deleted_since = EmbeddingStore.open(store.folder)
    chinese_too = swahili | rows_in_languages(store, ["zh"])
    assert store.live_N is not None
    assert deleted_since.live_N is not None
    for allowed in (store.live_N, swahili & store.live_N, chinese_too & store.live_N, deleted_since.live_N):
        scores, rows = milvus(queries, 10, allowed)
        exact_scores, exact_rows = exact(queries, 10, allowed)
        np.testing.assert_array_equal(rows, exact_rows)  # recall 1
        np.testing.assert_allclose(scores, exact_scores, rtol=1e-4)
    found, all_rows = (find(queries, 59, store.live_N)[1] for find in (milvus, exact))  # all there are
    np.testing.assert_array_equal(found, all_rows)
    index = milvus.__self__  # type: ignore[attr-defined]
    assert isinstance(index, MilvusIndex)
    condition = language_filter(store, swahili)
    of_milvus = index.client.query(index.collection, filter=condition, output_fields=["row"])
    assert sorted(hit["row"] for hit in of_milvus) == np.flatnonzero(swahili & store.live_N).tolist()
    scores, rows = milvus(queries, 100, swahili)
    assert set(rows[0][rows[0] >= 0].tolist()) == set(np.flatnonzero(swahili).tolist())
    facts = derived.require_fresh(store, "milvus")
    index.client.drop_collection(facts["collection"])
    with pytest.raises(StoreError, match=r"has no collection mcontriever_s_\w+[\s\S]*fill it: mcontriever index"):
        finder(store, "milvus")


def test_a_changed_store_is_brought_up_to_date_by_what_changed(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, uri: str
) -> None:
    documents = mixed_documents(60)
    folder = make_store(tmp_path / "s", documents[:40], encoder, model=str(tiny_encoder_dir), shard_documents=20).folder
    added = []

    def check() -> None:
        verb.run(folder, kind="milvus", uri=uri)
        store = EmbeddingStore.open(folder)
        facts = derived.require_fresh(store, "milvus")
        added.append(facts["added"])
        client = MilvusIndex.open(store, store, facts).client
        found = client.query(facts["collection"], filter="row >= 0", output_fields=["row", "vector"])
        rows = sorted(hit["row"] for hit in found)
        assert rows == sorted(set(range(len(store))) - set(store.deleted_rows.tolist()))
        vectors = [hit["vector"] for hit in sorted(found, key=lambda hit: hit["row"])]
        np.testing.assert_allclose(vectors, all_vectors(store)[rows], atol=1e-6)

    check()
    store_edits.delete(folder, ["d3", "d30"])
    corpus = write_lines(tmp_path / "more.jsonl", [*documents[40:], Document("d5", "other")])
    embed(EmbeddingRequest(str(corpus), folder, mode="replace"), encoder=encoder)  # which fills it, too
    added.append(derived.require_fresh(EmbeddingStore.open(folder), "milvus")["added"])
    check()
    check()
    store_edits.compact(folder)
    check()
    assert added == [40, 21, 0, 0, 58]


def test_documents_come_to_a_collection_that_is_being_searched(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`embed --append` fills the collection; who opened the store before finds what was there before."""
    documents = mixed_documents(60)
    before = make_store(tmp_path / "s", documents[:40], encoder, model=str(tiny_encoder_dir))
    verb.run(before.folder, kind="milvus", uri=uri)
    searching = finder(before, "milvus")
    corpus = write_lines(tmp_path / "more.jsonl", documents[40:])
    embed(EmbeddingRequest(str(corpus), before.folder, mode="append"), encoder=encoder)
    after = EmbeddingStore.open(before.folder)
    assert derived.require_fresh(after, "milvus")["added"] == 20
    queries = all_vectors(after)[40:]  # whose nearest are new
    for store, found in ((before, searching), (after, finder(after, "milvus"))):
        for k, allowed in ((5, None), (50, None), (5, rows_in_languages(store, ["sw", "zh"]))):
            scores, rows = found(queries, k, allowed)
            exact_scores, exact_rows = ExactSearch(store).search(queries, k, allowed)
            np.testing.assert_array_equal(rows, exact_rows)
            np.testing.assert_allclose(scores, exact_scores, rtol=1e-4)
    facts = derived.manifest_of(after, "milvus")
    assert facts is not None
    write_json(derived.folder_of(after, "milvus") / "manifest.json", {**facts, "uri": "http://localhost:1"})
    corpus = write_lines(tmp_path / "yet-more.jsonl", [Document("z", "zebra", "", "en")])
    embed(EmbeddingRequest(str(corpus), before.folder, mode="append"), encoder=encoder)
    assert "the Milvus collection is older than the store now" in caplog.text


def test_a_server_without_bm25_is_searched_with_our_words(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """2.3 has none, which is found out without its client's traceback."""
    store = make_store(tmp_path / "s", mixed_documents(20), encoder, model=str(tiny_encoder_dir))
    capfd.readouterr()
    verb.run(store.folder, kind="milvus", uri=server)
    assert "Traceback" not in capfd.readouterr().err
    hits = Index(store, encoder=encoder).search("telescope moons", mode="hybrid", merge="raw", index="milvus")
    assert any("bm25" in hit.parts for hit in hits)
    assert not any("milvus_bm25" in hit.parts for hit in hits)


def test_addresses_that_cannot_be_right(mixed_store: EmbeddingStore) -> None:
    with pytest.raises(ConfigError, match=r"nowhere is neither a URI nor a file name\.db"):
        verb.run(mixed_store.folder, kind="milvus", uri="nowhere")
    with pytest.raises(HubError, match=r"localhost cannot be reached[\s\S]*use Milvus Lite"):
        verb.run(mixed_store.folder, kind="milvus", uri="http://localhost:1")


def test_passwords_are_stored_nowhere_and_come_from_the_environment(
    mixed_store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert split_credentials("http://user:se%40cret@host:19530/db") == ("http://host:19530/db", "user:se@cret")
    assert split_credentials("http://host:19530") == ("http://host:19530", "")
    assert split_credentials("x.db") == (str(Path("x.db").resolve()), "")
    with pytest.raises(HubError, match="localhost cannot be reached") as caught:
        verb.run(mixed_store.folder, kind="milvus", uri="http://user:secret@localhost:1")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MILVUS_TOKEN", "user:one")
    assert token_of_environment() == "user:one"
    (tmp_path / "token").write_text("user:two\n")
    monkeypatch.setenv("MILVUS_TOKEN_FILE", str(tmp_path / "token"))
    assert token_of_environment() == "user:two"
    monkeypatch.setenv("MILVUS_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="the file of Milvus's token cannot be read"):
        token_of_environment()
