"""ranking.py: documents by their best rows, going deeper only while there is more to find."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever.retrieval.ranking import Ranking, best_rows, rank_documents, why
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from tests.retrieval.small_corpora import make_store, mixed_documents


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """30 documents in passages of 3 words."""
    return make_store(tmp_path_factory.mktemp("s") / "s", mixed_documents(30), None, passage_words=3)


class FirstRowsFirst:
    """A search that finds the store's rows in their order, up to `end`, and keeps how deep it was asked to go."""

    def __init__(self, end: int) -> None:
        self.end, self.depths = end, list[int]()

    def __call__(self, queries: Any, depth: int, allowed_N: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        self.depths.append(depth)
        rows = np.arange(depth)
        return -rows[None].astype(float), np.where(rows < self.end, rows, -1)[None]


def test_it_goes_deeper_until_there_are_enough_documents(store: EmbeddingStore) -> None:
    search = FirstRowsFirst(end=10_000)
    (ranking,) = rank_documents(store, search, ["q"], 1, 20, None)
    assert [document for document, _ in ranking.scores] == list(range(20))
    assert search.depths == [20, 80, len(store)]
    assert store.documents_N is not None
    assert all(store.documents_N[row] == document for document, row in ranking.rows.items())


def test_it_does_not_search_again_when_all_is_found(store: EmbeddingStore, tmp_path: Path) -> None:
    search = FirstRowsFirst(end=7)
    (ranking,) = rank_documents(store, search, ["q"], 1, 20, None)
    assert 0 < len(ranking.scores) < 7
    assert search.depths == [20]
    whole = FirstRowsFirst(end=10_000)
    (ranking,) = rank_documents(store, whole, ["q"], 1, 99, None)
    assert len(ranking.scores) == 30
    assert whole.depths == [99, len(store)]
    documents = make_store(tmp_path / "s", mixed_documents(30), None)
    rank_documents(documents, search, ["q"], 1, 20, None)
    assert search.depths == [20, 20]


def test_what_put_a_document_where_it_is() -> None:
    dense, lexical = Ranking([(4, 0.9), (2, 0.8)], {4: 40, 2: 20}), Ranking([(2, 7.0), (5, 3.0)], {2: 21, 5: 50})
    found, fused = {"dense": dense, "bm25": lexical}, {4: 0.1, 2: 0.2, 5: 0.05}
    assert why(2, found, fused, {}) == {"dense": 0.8, "dense_rank": 2, "bm25": 7.0, "bm25_rank": 1, "fused": 0.2}
    assert why(5, {"bm25": lexical}, fused, {5: 1.5}) == {"bm25": 3.0, "bm25_rank": 2, "reranker": 1.5}
    assert best_rows([dense, lexical]) == {4: 40, 2: 20, 5: 50}
