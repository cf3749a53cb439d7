"""combined_search.py: what each part said is kept, and all that is not re-ranked follows."""

from collections.abc import Sequence

import numpy as np
import pytest

from mcontriever.retrieval.combined_search import CombinedSearch
from mcontriever.retrieval.rerank import Reranker
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.texts.documents import Query


class Known:
    """A search whose answer is given."""

    def __init__(self, found: dict[int, float]) -> None:
        self.rows = np.array([list(found)])
        self.scores = np.array([list(found.values())])

    def ask(self, queries: Sequence[Query]) -> "Known":
        return self

    def best(self, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        return self.scores[:, :k], self.rows[:, :k]

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        raise NotImplementedError


DENSE, LEXICAL = Known({4: 0.9, 2: 0.8}), Known({2: 7.0, 5: 3.0})


def test_what_put_a_document_where_it_is(mixed_store: EmbeddingStore) -> None:
    search = CombinedSearch(store=mixed_store, dense={"dense": DENSE}, lexical={"bm25": LEXICAL})
    (ranked,) = search.rank([Query("q", "x")], 10)
    assert [one.document for one in ranked] == [2, 4, 5]
    both = {"dense": 0.8, "dense_rank": 2, "bm25": 7.0, "bm25_rank": 1}
    assert ranked[0].parts == {**both, "fused": pytest.approx(1 / 62 + 1 / 61)}
    assert ranked[2].parts == {"bm25": 3.0, "bm25_rank": 2, "fused": pytest.approx(1 / 62)}
    (alone,) = CombinedSearch(store=mixed_store, lexical={"bm25": LEXICAL}).rank([Query("q", "x")], 1)
    assert [(one.document, one.row, one.score, one.parts) for one in alone] == [
        (2, 2, 7.0, {"bm25": 7.0, "bm25_rank": 1})
    ]


class Shortest(Reranker):
    """Short passages score more."""

    def __init__(self) -> None:
        super().__init__(None)

    def scores(self, pairs: list[tuple[str, str]]) -> list[float]:  # type: ignore[override]
        return [-float(len(passage)) for _, passage in pairs]


def test_what_is_below_the_depth_follows_what_was_reranked(mixed_store: EmbeddingStore) -> None:
    rows = [7, 30, 11, 2, 50]
    dense = Known({row: 1.0 - place for place, row in enumerate(rows)})
    search = CombinedSearch(store=mixed_store, dense={"dense": dense}, reranker=Shortest(), depth=3)
    (ranked,) = search.rank([Query("q", "x")], 5)
    lengths = {row: len(text) for row, text in zip(rows, mixed_store.passages_of(rows), strict=True)}
    assert [one.row for one in ranked] == [*sorted(rows[:3], key=lambda row: lengths[row]), 2, 50]
    lowest = -float(max(lengths[row] for row in rows[:3]))
    assert [one.score for one in ranked[3:]] == [lowest - 1, lowest - 2]
    assert [("reranker" in one.parts) for one in ranked] == [True] * 3 + [False] * 2
