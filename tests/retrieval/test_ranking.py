"""ranking.py: documents by their best rows, going deeper only while there is more to find."""

from pathlib import Path

import numpy as np
import pytest

from mcontriever.retrieval.ranking import rank_documents
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from tests.retrieval.small_corpora import make_store, mixed_documents


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """30 documents in passages of 3 words."""
    return make_store(tmp_path_factory.mktemp("s") / "s", mixed_documents(30), None, passage_words=3)


class FirstRowsFirst:
    """An answer that has the store's rows in their order, up to `end`, and keeps how deep it was asked to go."""

    def __init__(self, end: int) -> None:
        self.end, self.depths = end, list[int]()

    def best(self, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        self.depths.append(k)
        rows = np.arange(k)
        return -rows[None].astype(float), np.where(rows < self.end, rows, -1)[None]

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def test_it_goes_deeper_until_there_are_enough_documents(store: EmbeddingStore) -> None:
    search = FirstRowsFirst(end=10_000)
    (ranking,) = rank_documents(store, search, 20)
    assert [document for document, _ in ranking.scores] == list(range(20))
    assert search.depths == [20, 80, len(store)]
    assert store.documents_N is not None
    assert all(store.documents_N[row] == document for document, row in ranking.rows.items())


def test_it_does_not_search_again_when_all_is_found(store: EmbeddingStore, tmp_path: Path) -> None:
    search = FirstRowsFirst(end=7)
    (ranking,) = rank_documents(store, search, 20)
    assert 0 < len(ranking.scores) < 7
    assert search.depths == [20]
    whole = FirstRowsFirst(end=10_000)
    (ranking,) = rank_documents(store, whole, 99)
    assert len(ranking.scores) == 30
    assert whole.depths == [99, len(store)]
    documents = make_store(tmp_path / "s", mixed_documents(30), None)
    rank_documents(documents, search, 20)
    assert search.depths == [20, 20]
