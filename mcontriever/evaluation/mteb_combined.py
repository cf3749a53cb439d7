"""Searches behind MTEB's SearchProtocol that are made of others: BM25 over texts, and several searches as one.

Each gets ready objects, so nothing here depends on a kind of BM25, fusion or cross-encoder.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from mteb.models import ModelMeta

from mcontriever.evaluation.mteb_search import Hits, document_texts, hits_of, languages_of
from mcontriever.texts.documents import Document, Hit, Query

FindHits = Callable[[Sequence[Query], int], Iterable[Sequence[Hit]]]
Find = Callable[[Sequence[str], int], tuple[np.ndarray, np.ndarray]]
Ranking = Sequence[tuple[int, float]]
TextsOf = Callable[[Sequence[int]], list[str]]
Combine = Callable[[str, list[Ranking], TextsOf], Ranking]


class TextSearch:
    """`build(texts)` returns `find(queries, k)`, which returns scores_QK and positions_QK (-1: none)."""

    def __init__(self, build: Callable[[list[str]], Find], meta: ModelMeta) -> None:
        self.build, self.mteb_model_meta = build, meta
        self._corpus: Dataset | None = None

    def index(self, corpus: Dataset, **context: Any) -> None:
        if self._corpus is None or corpus._fingerprint != self._corpus._fingerprint:
            self._corpus = corpus
            self._find = self.build(document_texts(corpus))

    def search(self, queries: Dataset, *, top_k: int, **context: Any) -> Hits:
        assert self._corpus is not None
        scores_QK, positions_QK = self._find(queries["text"][:], min(top_k, len(self._corpus)))
        return hits_of(queries["id"][:], self._corpus["id"][:], positions_QK, scores_QK)


class DocumentSearch:
    """`build(documents)`, whose ids are their positions, returns `find(queries, k)`, which returns hits."""

    def __init__(self, build: Callable[[list[Document]], FindHits], meta: ModelMeta) -> None:
        self.build, self.mteb_model_meta = build, meta
        self._corpus: Dataset | None = None

    def index(self, corpus: Dataset, **context: Any) -> None:
        if self._corpus is None or corpus._fingerprint != self._corpus._fingerprint:
            self._corpus = corpus
            texts = zip(document_texts(corpus), languages_of(corpus), strict=True)
            self._find = self.build([Document(str(n), text, "", language) for n, (text, language) in enumerate(texts)])

    def search(self, queries: Dataset, *, top_k: int, **context: Any) -> Hits:
        assert self._corpus is not None
        ids, asked = (
            self._corpus["id"][:],
            [Query(*pair) for pair in zip(queries["id"][:], queries["text"][:], strict=True)],
        )
        found = self._find(asked, min(top_k, len(self._corpus)))
        return {
            query.id: {ids[int(hit.id)]: hit.score for hit in hits} for query, hits in zip(asked, found, strict=True)
        }


class CombinedMtebSearch:
    """`combine(query, rankings of the parts, texts_of)` returns one; a ranking is (position, score), best first.

    `texts_of(positions)` reads documents, for re-ranking.
    """

    def __init__(self, parts: Sequence[Any], combine: Combine, meta: ModelMeta) -> None:
        self.parts, self.combine, self.mteb_model_meta = parts, combine, meta

    def index(self, corpus: Dataset, **context: Any) -> None:
        for part in self.parts:
            part.index(corpus, **context)
        self._corpus, self._ids = corpus, corpus["id"][:]
        self._position = {document: position for position, document in enumerate(self._ids)}

    def search(self, queries: Dataset, *, top_k: int, **context: Any) -> Hits:
        answers = [part.search(queries, top_k=top_k, **context) for part in self.parts]
        found: Hits = {}
        for query, text in zip(queries["id"][:], queries["text"][:], strict=True):
            ranking = self.combine(text, [self._ranking(answer.get(query, {})) for answer in answers], self._texts_of)
            found[query] = {self._ids[position]: score for position, score in ranking[:top_k]}
        return found

    def _ranking(self, hits: Mapping[str, float]) -> list[tuple[int, float]]:
        ranking = [(self._position[document], score) for document, score in hits.items()]
        return sorted(ranking, key=lambda item: (-item[1], item[0]))

    def _texts_of(self, positions: Sequence[int]) -> list[str]:
        return document_texts(self._corpus.select(positions))
