"""milvus.py against Milvus Lite, for real: it returns what exact search returns."""

from pathlib import Path

import numpy as np
import pytest

from mcontriever import index as verb
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, HubError, StoreError
from mcontriever.retrieval import derived, store_edits
from mcontriever.retrieval.dense_search import open_dense_search
from mcontriever.retrieval.embedding_store import EmbeddingStore
from mcontriever.retrieval.languages import rows_in_languages
from tests.retrieval.small_corpora import all_vectors, make_store, mixed_documents

pytest.importorskip("milvus_lite")
MEMORY = 1 << 28


def test_milvus_lite_returns_what_exact_search_returns(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "s", mixed_documents(60), encoder, model=str(tiny_encoder_dir), shard_documents=25)
    store_edits.delete(store.folder, ["d3"])
    store = EmbeddingStore.open(store.folder)
    monkeypatch.chdir(tmp_path)
    verb.run(store.folder, kind="milvus", uri="lite.db")
    monkeypatch.undo()
    milvus = open_dense_search(store, "milvus", None, MEMORY)
    exact = open_dense_search(store, "exact", None, MEMORY)
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
    scores, rows = milvus(queries, 100, swahili)
    assert set(rows[0][rows[0] >= 0].tolist()) == set(np.flatnonzero(swahili).tolist())
    facts = derived.require_fresh(store, "milvus")
    milvus.__self__.client.drop_collection(facts["collection"])  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match=r"has no collection mcontriever_s_\w+[\s\S]*fill it: mcontriever index"):
        open_dense_search(store, "milvus", None, MEMORY)


def test_addresses_that_cannot_be_right(mixed_store: EmbeddingStore) -> None:
    with pytest.raises(ConfigError, match=r"nowhere is neither a URI nor a file name\.db"):
        verb.run(mixed_store.folder, kind="milvus", uri="nowhere")
    with pytest.raises(HubError, match=r"localhost cannot be reached[\s\S]*use Milvus Lite"):
        verb.run(mixed_store.folder, kind="milvus", uri="http://localhost:1")
