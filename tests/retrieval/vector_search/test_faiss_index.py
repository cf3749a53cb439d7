"""index.py: every FAISS kind finds what exact search finds, at the recall it states; old ones are never used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever import index as verb
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, StoreError
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.store import derived, store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.faiss_index import FaissIndex
from mcontriever.retrieval.vector_search.index_choice import bytes_per_vector, choose_kind, recall_without_self, tune
from mcontriever.retrieval.vector_search.index_kinds import FAISS_KINDS
from mcontriever.retrieval.vector_search.vectors import ArrayVectors, FindRows
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import make_store, mixed_documents, unit_rows

MEMORY = 1 << 28
VECTORS = ArrayVectors(unit_rows(np.random.default_rng(0), 5000, 32, clusters=60))
QUERIES = unit_rows(np.random.default_rng(0), 5000, 32, clusters=60)[:100] + np.float32(0.02)


def finder(store: EmbeddingStore, index: str) -> FindRows:
    encoder: Any = None  # it is not asked
    return DenseSearch.calibrated(store, encoder, MEMORY, index=index).find


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]))


@pytest.mark.parametrize("kind", FAISS_KINDS)
def test_each_kind_reaches_its_stated_recall_and_survives_saving(tmp_path: Path, kind: str) -> None:
    index, measured = tune(FaissIndex.build(VECTORS, kind, MEMORY), recall_wanted=0.95)
    assert measured["recall_at_10"] >= 0.95
    exact_scores, wanted = ExactSearch(VECTORS).search(QUERIES, 10)
    scores, found = index.search(QUERIES, 10)
    assert recall(found, wanted) > 0.9
    same = found == wanted
    np.testing.assert_allclose(scores[same], exact_scores[same], rtol=1e-4)
    index.save(tmp_path)
    size = (tmp_path / "index.faiss").stat().st_size
    centres = 4 * 32 * getattr(index.index, "nlist", 0)
    assert (size - centres) / len(VECTORS) < 1.9 * bytes_per_vector(kind, 32)  # short lists are padded

    allowed = np.random.default_rng(1).random(5000) < 0.4
    _, wanted = ExactSearch(VECTORS).search(QUERIES, 10, allowed)
    _, found = index.search(QUERIES, 10, allowed)
    assert allowed[found[found >= 0]].all()
    assert recall(found, wanted) > 0.85
    few = np.arange(5000) % 500 == 3
    _, found = index.search(QUERIES, 20, few)
    assert sorted(found[0].tolist()) == np.flatnonzero(few).tolist()


def test_more_wanted_than_there_is() -> None:
    vectors = ArrayVectors(unit_rows(np.random.default_rng(0), 6, 32))
    for kind in ("flat", "hnsw", "ivf-sq"):
        _, rows = FaissIndex.build(vectors, kind, MEMORY).search(QUERIES[:2], 10)
        assert sorted(rows[0].tolist()) == list(range(6))


def test_recall_leaves_the_query_itself_out() -> None:
    exact = np.array([[5, 1, 2], [6, 3, 4]])
    assert recall_without_self(exact, np.array([[5, 1, 9], [6, 3, 4]]), np.array([5, 6])) == 0.75


@pytest.mark.parametrize(
    ("rows", "memory_mb", "expected"),
    [
        (1000, 100, "flat-int8"),
        (1_000_000, 4000, "hnsw"),
        (1_000_000, 1000, "ivf-sq"),
        (1_000_000, 200, "ivf-pq"),
        (1_000_000, 50, "rabitq"),
    ],
)
def test_auto_takes_the_fastest_that_fits(rows: int, memory_mb: int, expected: str) -> None:
    assert choose_kind(rows, 384, memory_mb << 20) == expected


def test_an_index_is_refused_when_the_store_changed_and_left_aside_by_auto(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tmp_path / "s", mixed_documents(60), encoder, model=str(tiny_encoder_dir))
    verb.run(store.folder, kind="hnsw")
    facts = derived.manifest_of(store, "hnsw")
    assert facts is not None
    assert facts["measured"]["recall_at_10"] >= 0.95
    query = encoder.embed_queries(["The river rises"])
    search = finder(store, "auto")
    assert isinstance(search.__self__, FaissIndex)  # type: ignore[attr-defined]

    store_edits.delete(store.folder, ["d0", "d7"])  # deleting needs no new index
    store = EmbeddingStore.open(store.folder)
    _, rows = finder(store, "hnsw")(query, 60, store.live_N)
    assert set(rows[0].tolist()) - {-1} <= set(range(60)) - {0, 7}
    _, exact = finder(store, "exact")(query, 60, store.live_N)
    assert exact.shape == (1, 58)

    make_store(tmp_path / "more", [Document("new", "text")], None)
    request = EmbeddingRequest(str(tmp_path / "more.jsonl"), store.folder, model=str(tiny_encoder_dir), mode="append")
    embed(request, encoder=encoder)
    store = EmbeddingStore.open(store.folder)
    with pytest.raises(StoreError, match=r"made from other rows[\s\S]*generation 1, the store is at 3[\s\S]*fix: make"):
        finder(store, "hnsw")
    search = finder(store, "auto")
    assert isinstance(search.__self__, ExactSearch)  # type: ignore[attr-defined]
    verb.run(store.folder, kind="hnsw")
    assert isinstance(finder(store, "auto").__self__, FaissIndex)  # type: ignore[attr-defined]


def test_what_cannot_be_made_or_found(tmp_path: Path, mixed_store: EmbeddingStore) -> None:
    with pytest.raises(StoreError, match=r"no index of kind rabitq \(there are: [\w, -]*\)"):
        finder(mixed_store, "rabitq")
    with pytest.raises(ConfigError, match="--kind milvus and --uri go together"):
        verb.run(mixed_store.folder, kind="milvus")
    lexical = make_store(tmp_path / "s", mixed_documents(5), None)
    with pytest.raises(StoreError, match="the store has no vectors"):
        verb.run(lexical.folder, kind="flat")
