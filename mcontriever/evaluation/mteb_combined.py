"""Searches made of others behind MTEB's SearchProtocol: BM25 and the like, a fusion of several, and re-ranking.

Each takes ready objects, so that nothing here knows which BM25, which fusion or which cross-encoder it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from mteb.models import ModelMeta

from mcontriever.evaluation.mteb_search import Hits, document_texts, hits_of

Find = Callable[[Sequence[str], int], tuple[np.ndarray, np.ndarray]]
Ranking = list[tuple[int, float]]


class TextSearch:
    """A search built from texts: `build(texts)` gives `find(queries, k)` -> positions_QK (-1: none), scores_QK."""

    def __init__(self, build: Callable[[list[str]], Find], meta: ModelMeta) -> None:
        self.build = build
        self.mteb_model_meta = meta
        self._corpus: Dataset | None = None

    def index(self, corpus: Dataset, **context: Any) -> None:
        if self._corpus is None or corpus._fingerprint != self._corpus._fingerprint:
            self._corpus = corpus
            self._find = self.build(document_texts(corpus))

    def search(self, queries: Dataset, *, top_k: int, **context: Any) -> Hits:
        assert self._corpus is not None
        positions_QK, scores_QK = self._find(queries["text"][:], min(top_k, len(self._corpus)))
        return hits_of(queries["id"][:], self._corpus["id"][:], positions_QK, scores_QK)


class FusedSearch:
    """Several searches made one: `fuse` merges their rankings of a query's documents, by position in the corpus."""

    def __init__(self, parts: Sequence[Any], fuse: Callable[[list[Ranking]], Ranking], meta: ModelMeta) -> None:
        self.parts, self.fuse, self.mteb_model_meta = parts, fuse, meta

    def index(self, corpus: Dataset, **context: Any) -> None:
        for part in self.parts:
            part.index(corpus, **context)
        self._ids = corpus["id"][:]
        self._position = {document: position for position, document in enumerate(self._ids)}

    def search(self, queries: Dataset, *, top_k: int, **context: Any) -> Hits:
        answers = [part.search(queries, top_k=top_k, **context) for part in self.parts]
        return {
            query: {
                self._ids[position]: score
                for position, score in self.fuse([self._ranking(answer.get(query, {})) for answer in answers])[:top_k]
            }
            for query in queries["id"][:]
        }

    def _ranking(self, hits: Mapping[str, float]) -> Ranking:
        ranking = [(self._position[document], score) for document, score in hits.items()]
        return sorted(ranking, key=lambda item: (-item[1], item[0]))


class RerankedSearch:
    """The best `depth` hits of a search in the order of `score_pairs(pairs of query and document)`; the rest follow."""

    def __init__(
        self,
        first: Any,
        score_pairs: Callable[[list[tuple[str, str]]], Sequence[float]],
        meta: ModelMeta,
        depth: int,
    ) -> None:
        self.first, self.score_pairs, self.mteb_model_meta, self.depth = first, score_pairs, meta, depth
        self._corpus: Dataset | None = None

    def index(self, corpus: Dataset, **context: Any) -> None:
        self.first.index(corpus, **context)
        self._corpus = corpus
        self._position = {document: position for position, document in enumerate(corpus["id"][:])}

    def search(self, queries: Dataset, *, top_k: int, **context: Any) -> Hits:
        found = self.first.search(queries, top_k=top_k, **context)
        return {
            query: self._reordered(text, found.get(query, {}))
            for query, text in zip(queries["id"][:], queries["text"][:], strict=True)
        }

    def _reordered(self, query: str, hits: Mapping[str, float]) -> dict[str, float]:
        assert self._corpus is not None
        ordered = sorted(hits, key=lambda document: (-hits[document], self._position[document]))
        head, tail = ordered[: self.depth], ordered[self.depth :]
        texts = document_texts(self._corpus.select([self._position[document] for document in head]))
        scores = [float(score) for score in self.score_pairs([(query, text) for text in texts])]
        lowest = min(scores, default=0.0)
        below = [lowest - 1.0 - rank for rank in range(len(tail))]
        return dict(zip(head + tail, scores + below, strict=True))
