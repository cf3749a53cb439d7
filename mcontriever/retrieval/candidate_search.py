"""A block of queries asked of a store: the best rows of each, the scores of given rows, and which rows hold a text.

`DenseSearch` and `LexicalSearch` take texts with `ask` and give an answer with `best(k)` and `scores_of(rows_QP)`.

Shapes: N rows of the store, Q queries, K best rows, P given rows of a query (-1: none).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mcontriever.progress import track
from mcontriever.retrieval.lexical import LexicalIndex, open_lexical
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.rough_search import RoughSearch

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

TEXTS_PER_BATCH = 4096
TEXT_KEYS = "text-keys"


class Answer(Protocol):
    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]: ...

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray: ...


class DenseSearch:
    def __init__(self, store: EmbeddingStore, encoder: "Encoder", memory_bytes: int) -> None:
        self.store, self.encoder = store, encoder
        device = encoder.device if encoder.device.type == "cuda" else "cpu"
        self.rough = RoughSearch(store, memory_bytes=memory_bytes, device=device)

    def ask(self, texts: Sequence[str]) -> "DenseAnswer":
        return DenseAnswer(self, self.encoder.embed_queries(texts))


@dataclass(frozen=True, eq=False)
class DenseAnswer:
    search: DenseSearch
    queries_QH: np.ndarray

    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.search.rough.search(self.queries_QH, k, self.search.store.live_N)

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        scores_QP = np.full(rows_QP.shape, np.nan, dtype=np.float32)
        for column, rows_Q in enumerate(rows_QP.T):
            known = np.flatnonzero(rows_Q >= 0)
            vectors = self.search.store.take(rows_Q[known])
            scores_QP[known, column] = np.einsum("qh,qh->q", self.queries_QH[known], vectors)
        return scores_QP

    def scores_of_texts(self, queries: Sequence[int], titles: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """Of texts that the store does not hold, each with one of the queries."""
        vectors = self.search.encoder.embed_documents(texts, titles)
        return np.einsum("qh,qh->q", self.queries_QH[np.asarray(queries, dtype=np.int64)], vectors)


class LexicalSearch:
    def __init__(self, store: EmbeddingStore) -> None:
        self.store = store
        self.index: LexicalIndex = open_lexical(store, "words")

    def ask(self, texts: Sequence[str]) -> "LexicalAnswer":
        return LexicalAnswer(self, texts)


@dataclass(frozen=True, eq=False)
class LexicalAnswer:
    search: LexicalSearch
    queries: Sequence[str]

    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.search.index.search(self.queries, k, self.search.store.live_N)

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray:
        """BM25 scores all rows of a query at once, so this costs as much as the search did."""
        index = self.search.index
        scores_QP = np.full(rows_QP.shape, np.nan, dtype=np.float32)
        for number, terms in enumerate(index.tokenize(self.queries)):
            known, wanted = index.model.get_tokens_ids(terms), rows_QP[number] >= 0
            if wanted.any():
                scores_N = index.model.get_scores_from_ids(known) if known else np.zeros(len(self.search.store))
                scores_QP[number, wanted] = scores_N[rows_QP[number, wanted]]
        return scores_QP


@dataclass(frozen=True, eq=False)
class StoreTexts:
    """A key for the text of each row, as `text_key` makes it, and the way back from a key to the first row with it."""

    keys_N: np.ndarray
    sorted_keys_N: np.ndarray
    sorted_rows_N: np.ndarray

    @classmethod
    def open(cls, store: EmbeddingStore, text_key: Callable[[str], int]) -> "StoreTexts":
        """Read once from all texts, then kept beside the store."""

        def make() -> None:
            derived.write(store, TEXT_KEYS, lambda folder: _write_keys(store, text_key, folder / "keys.npy"))

        derived.ensure(store, TEXT_KEYS, make)
        keys_N = np.load(derived.folder_of(store, TEXT_KEYS) / "keys.npy", mmap_mode="r")
        order_N = np.argsort(keys_N, kind="stable")
        return cls(keys_N, keys_N[order_N], order_N)

    def rows_of(self, keys: np.ndarray) -> np.ndarray:
        """-1 for a text that no row holds."""
        places = np.minimum(np.searchsorted(self.sorted_keys_N, keys), len(self.sorted_keys_N) - 1)
        return np.where(self.sorted_keys_N[places] == keys, self.sorted_rows_N[places], -1)


def _write_keys(store: EmbeddingStore, text_key: Callable[[str], int], path: Path) -> None:
    keys_N = np.empty(len(store), dtype=np.uint64)
    filled = 0
    with track(len(store), "reading texts, once", "rows") as progress:
        for _, texts in store.text_batches(TEXTS_PER_BATCH):
            keys_N[filled : filled + len(texts)] = [text_key(text) for text in texts]
            filled += len(texts)
            progress.advance(len(texts))
    np.save(path, keys_N)
