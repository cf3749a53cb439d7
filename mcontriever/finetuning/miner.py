"""Mining one block of queries: ask each search, keep what may be a negative, let a cross-encoder object, take n.

A search is anything with `ask(texts)`, whose answer has `best(k)` and `scores_of(rows_QP)`; the store shows rows.

Shapes: Q queries of the block, K candidates of each, P positives of a query at most, n negatives wanted of a search.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from mcontriever.finetuning.hard_negatives import NO_KEY, Window, choose, eligible_candidates
from mcontriever.finetuning.known_positives import KnownPositives
from mcontriever.finetuning.mined_examples import PartStatistics, rank_range, sampled
from mcontriever.finetuning.passage_collection import text_key
from mcontriever.finetuning.training_set import TrainingSet
from mcontriever.records import Document, Query

NO_ROW = -1
QUERIES_PER_OPINION = 256


class Answer(Protocol):
    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]: ...

    def scores_of(self, rows_QP: np.ndarray) -> np.ndarray: ...


class Search(Protocol):
    def ask(self, texts: Sequence[str]) -> Answer: ...


class Store(Protocol):
    def rows_shown(self, rows_R: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]: ...


class StoreTexts(Protocol):
    @property
    def keys_N(self) -> np.ndarray: ...

    def rows_of(self, keys: np.ndarray) -> np.ndarray: ...


class CrossEncoder(Protocol):
    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]: ...


@dataclass(frozen=True, kw_only=True)
class Searcher:
    name: str
    search: Search
    window: Window
    negatives: int
    at_random: bool


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """Negatives that score above `max_score` are dropped; `examined` candidates are read for each one wanted."""

    cross_encoder: CrossEncoder
    max_score: float | None
    examined: float


@dataclass(frozen=True)
class Negative:
    row: int
    rank: int
    score: float
    source: str
    teacher_score: float | None = None


class Miner:
    def __init__(
        self,
        *,
        examples: TrainingSet,
        searchers: Sequence[Searcher],
        store: Store,
        texts: StoreTexts,
        opinion: SecondOpinion | None,
        seed: int,
        write_texts: bool,
    ) -> None:
        self.examples, self.searchers, self.store, self.texts = examples, searchers, store, texts
        self.opinion, self.seed, self.write_texts = opinion, seed, write_texts
        self.known = KnownPositives(examples)

    def mine(self, rows_Q: np.ndarray) -> tuple[list[dict[str, Any]], PartStatistics]:
        """Records of these examples, and what there is to say about them."""
        block = _Block(self, rows_Q)
        for searcher in self.searchers:
            block.search(searcher)
        return block.records(), block.finished_statistics()


class _Block:
    def __init__(self, miner: Miner, rows_Q: np.ndarray) -> None:
        self.miner, self.rows_Q = miner, rows_Q
        examples = miner.examples
        self.queries: list[Query] = [
            Query(query.id, query.text, query.language)
            for query in examples.queries.documents(examples.query_rows_E[rows_Q])
        ]
        self.positives: list[list[Document]] = [examples.passages.documents(examples.positives[row]) for row in rows_Q]
        self.positive_keys_QP = _padded([[text_key(document.text) for document in some] for some in self.positives])
        self.taken_keys_QP = miner.known.keys_of(rows_Q)
        self.negatives: list[list[Negative]] = [[] for _ in rows_Q]
        self.positive_scores: dict[str, np.ndarray] = {}
        self.teacher_scores: list[list[float]] | None = None
        self.statistics = PartStatistics(examples=len(rows_Q))

    def search(self, searcher: Searcher) -> None:
        answer = searcher.search.ask([query.text for query in self.queries])
        scores_QK, rows_QK = answer.best(searcher.window.last_rank)
        keys_QK = np.where(rows_QK >= 0, self.miner.texts.keys_N[rows_QK], np.uint64(NO_KEY))
        scores_QP = self._scores_of_positives(searcher, answer)
        self.positive_scores[searcher.name] = scores_QP
        eligible_QK, passed_over = eligible_candidates(
            scores_QK, keys_QK, self.taken_keys_QP, _least(scores_QP), searcher.window
        )
        self.statistics.passed_over.update(passed_over)
        self._count_positive_ranks(keys_QK)
        opinion = self.miner.opinion
        wanted = searcher.negatives if opinion is None else math.ceil(searcher.negatives * opinion.examined)
        columns_Qn = choose(
            eligible_QK, wanted, at_random=searcher.at_random, seed=self.miner.seed, examples_Q=self.rows_Q
        )
        found = [
            [
                Negative(int(rows_QK[number, column]), int(column) + 1, float(scores_QK[number, column]), searcher.name)
                for column in columns
                if column >= 0
            ]
            for number, columns in enumerate(columns_Qn)
        ]
        if opinion is not None:
            found = self._without_objections(found, opinion)
        for negatives, more in zip(self.negatives, found, strict=True):
            negatives.extend(more[: searcher.negatives])
        self._note_taken([more[: searcher.negatives] for more in found])
        self.statistics.short += sum(len(more) < searcher.negatives for more in found)

    def _scores_of_positives(self, searcher: Searcher, answer: Answer) -> np.ndarray:
        """Of the example's own positives; those that the corpus lacks are embedded, where the search can do that."""
        rows_QP = self.miner.texts.rows_of(self.positive_keys_QP)
        rows_QP = np.where(self.positive_keys_QP == NO_KEY, NO_ROW, rows_QP)
        scores_QP = answer.scores_of(rows_QP)
        missing = np.argwhere((rows_QP == NO_ROW) & (self.positive_keys_QP != NO_KEY)).tolist()
        if missing and hasattr(answer, "scores_of_texts"):
            documents = [self.positives[query][column] for query, column in missing]
            scores_QP[tuple(np.transpose(missing))] = answer.scores_of_texts(
                [query for query, _ in missing],
                [document.title for document in documents],
                [document.text for document in documents],
            )
        return scores_QP

    def _count_positive_ranks(self, keys_QK: np.ndarray) -> None:
        is_positive_QK = np.zeros(keys_QK.shape, dtype=bool)
        for key_Q in self.positive_keys_QP.T:
            is_positive_QK |= (keys_QK == key_Q[:, None]) & (key_Q != NO_KEY)[:, None]
        ranks_Q = np.where(is_positive_QK.any(axis=1), is_positive_QK.argmax(axis=1) + 1, 0)
        self.statistics.positive_ranks.update(rank_range(rank) for rank in ranks_Q.tolist())

    def _without_objections(self, found: list[list[Negative]], opinion: SecondOpinion) -> list[list[Negative]]:
        kept, limit = [], math.inf if opinion.max_score is None else opinion.max_score
        for start in range(0, len(found), QUERIES_PER_OPINION):
            part = found[start : start + QUERIES_PER_OPINION]
            shown = self._shown([negative.row for negatives in part for negative in negatives], texts=True)
            texts = [Document(row["id"], row["text"], row["title"]).full_text for row in shown]
            questions = [self.queries[start + number].text for number, negatives in enumerate(part) for _ in negatives]
            scores = iter(opinion.cross_encoder.scores(list(zip(questions, texts, strict=True))))
            for negatives in part:
                scored = [replace(negative, teacher_score=next(scores)) for negative in negatives]
                kept.append([one for one in scored if one.teacher_score is not None and one.teacher_score <= limit])
        dropped = sum(map(len, found)) - sum(map(len, kept))
        self.statistics.passed_over["a positive to the cross-encoder"] += dropped
        return kept

    def _note_taken(self, found: list[list[Negative]]) -> None:
        keys = _padded([[int(self.miner.texts.keys_N[negative.row]) for negative in some] for some in found])
        self.taken_keys_QP = np.concatenate([self.taken_keys_QP, keys], axis=1)

    def records(self) -> list[dict[str, Any]]:
        """In DPR's layout."""
        rows = [negative.row for negatives in self.negatives for negative in negatives]
        shown = iter(self._shown(rows, texts=self.miner.write_texts))
        teacher = self._teacher_scores_of_positives()
        return [
            {
                "id": query.id,
                "question": query.text,
                "language": query.language,
                "positive_ctxs": [
                    self._positive(number, column, document, next(teacher))
                    for column, document in enumerate(self.positives[number])
                ],
                "hard_negative_ctxs": [_negative(negative, next(shown)) for negative in self.negatives[number]],
            }
            for number, query in enumerate(self.queries)
        ]

    def _shown(self, rows: list[int], *, texts: bool) -> list[dict[str, Any]]:
        columns = ["id", "title", "text"] if texts else ["id"]
        return self.miner.store.rows_shown(np.array(rows, dtype=np.int64), columns)

    def _teacher_scores_of_positives(self) -> Iterator[float | None]:
        documents = [(number, document) for number, some in enumerate(self.positives) for document in some]
        if self.miner.opinion is None:
            return iter([None] * len(documents))
        pairs = [(self.queries[number].text, document.full_text) for number, document in documents]
        return iter(self.miner.opinion.cross_encoder.scores(pairs))

    def _positive(self, number: int, column: int, document: Document, teacher: float | None) -> dict[str, Any]:
        first = next(iter(self.positive_scores.values()))[number, column]
        texts = {"title": document.title, "text": document.text} if self.miner.write_texts else {}
        score = None if math.isnan(first) else float(first)
        return {"id": document.id, **texts, "score": score, **({} if teacher is None else {"teacher_score": teacher})}

    def finished_statistics(self) -> PartStatistics:
        statistics, negatives = self.statistics, [one for some in self.negatives for one in some]
        statistics.negatives = len(negatives)
        statistics.sources = Counter(negative.source for negative in negatives)
        statistics.negative_ranks = Counter(rank_range(negative.rank) for negative in negatives)
        for source, scores_QP in self.positive_scores.items():
            statistics.positive_scores[source] = sampled(scores_QP[np.isfinite(scores_QP)])
            scores = np.array([negative.score for negative in negatives if negative.source == source])
            statistics.negative_scores[source] = sampled(scores)
        return statistics


def _negative(negative: Negative, shown: dict[str, Any]) -> dict[str, Any]:
    teacher = {} if negative.teacher_score is None else {"teacher_score": negative.teacher_score}
    return {**shown, "score": negative.score, "rank": negative.rank, "source": negative.source, **teacher}


def _least(scores_QP: np.ndarray) -> np.ndarray:
    """A negative must stay below every positive; NaN where none has a score."""
    lowest_Q = np.where(np.isnan(scores_QP), np.inf, scores_QP).min(axis=1)
    return np.where(np.isfinite(lowest_Q), lowest_Q, np.nan)


def _padded(rows: list[list[int]]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows), default=0)), NO_KEY, dtype=np.uint64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded
