"""Mining one block of queries: ask each search, keep possible negatives, let a cross-encoder reject some, take n.

Searches and their answers are those of row_search.py; the store shows rows. All decisions about a block are
arrays. Its records, which take as long as the search, are made by the writer.

Shapes: Q queries of the block, K candidates of each, P positives of a query at most, n negatives taken at most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mcontriever.finetuning.examples.passage_collection import text_key
from mcontriever.finetuning.examples.training_set import TrainingSet
from mcontriever.finetuning.mining.hard_negatives import NO_KEY, Window, choose, eligible_candidates
from mcontriever.finetuning.mining.known_positives import KnownPositives
from mcontriever.finetuning.mining.mined_block import NO_ROW, MinedBlock, TakenPassages
from mcontriever.row_search import Answer, RowSearch
from mcontriever.texts.documents import Document, Query

QUERIES_PER_OPINION = 256


class Store(Protocol):
    def rows_shown(self, rows_R: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]: ...


class StoreTexts(Protocol):
    @property
    def keys_N(self) -> np.ndarray: ...

    def rows_of(self, keys: np.ndarray) -> np.ndarray: ...


class CrossEncoder(Protocol):
    def logits(self, pairs: Sequence[tuple[str, str]]) -> list[float]: ...


@dataclass(frozen=True, kw_only=True)
class Searcher:
    name: str
    search: RowSearch
    window: Window
    negatives: int
    at_random: bool


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """TakenPassages that answer with more than `max_probability` are dropped; `examined` are read for each one wanted.

    Of a query without a label, those that answer with `min_positive_probability` become its positives.
    """

    cross_encoder: CrossEncoder
    max_probability: float | None
    min_positive_probability: float | None = None
    examined: float


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
    ) -> None:
        self.examples, self.searchers, self.store, self.texts = examples, searchers, store, texts
        self.opinion, self.seed = opinion, seed
        self.known = KnownPositives(examples)

    def mine(self, rows_Q: np.ndarray) -> MinedBlock:
        """Mine for these examples."""
        examples = self.examples
        queries = examples.queries.documents(examples.query_rows_E[rows_Q])
        positives = [examples.passages.documents(examples.positives[row]) for row in rows_Q]
        block = MinedBlock(
            ids=[query.id for query in queries],
            questions=[query.text for query in queries],
            languages=[query.language for query in queries],
            positives=positives,
            positive_keys_QP=_padded([[text_key(document.text) for document in some] for some in positives]),
        )
        taken_keys_QP = self.known.keys_of(rows_Q)
        for searcher in self.searchers:
            negatives = self._search(searcher, block, rows_Q, taken_keys_QP)
            block.negatives.append(negatives)
            taken = [self._keys(passages.rows_Qn) for passages in (negatives, *block.pseudo_positives[-1:])]
            taken_keys_QP = np.concatenate([taken_keys_QP, *taken], axis=1)
        if self.opinion is not None:
            self._score_positives(block, self.opinion.cross_encoder)
        block.count_taken()
        return block

    def _search(
        self, searcher: Searcher, block: MinedBlock, rows_Q: np.ndarray, taken_keys_QP: np.ndarray
    ) -> TakenPassages:
        asked = zip(block.ids, block.questions, block.languages, strict=True)
        answer = searcher.search.ask([Query(*query) for query in asked])
        scores_QK, rows_QK = answer.best(searcher.window.last_rank)
        keys_QK = self._keys(rows_QK)
        scores_QP = self._scores_of_positives(answer, block)
        block.positive_scores[searcher.name] = scores_QP
        eligible_QK, passed_over = eligible_candidates(
            scores_QK, keys_QK, taken_keys_QP, _least(scores_QP), searcher.window
        )
        block.statistics.passed_over.update(passed_over)
        block.count_ranks_of_positives(keys_QK)
        wanted = searcher.negatives * (1 if self.opinion is None else self.opinion.examined)
        columns_Qn = choose(
            eligible_QK, math.ceil(wanted), at_random=searcher.at_random, seed=self.seed, examples_Q=rows_Q
        )
        places_Qn = np.maximum(columns_Qn, 0)
        negatives = TakenPassages(
            searcher.name,
            np.where(columns_Qn >= 0, np.take_along_axis(rows_QK, places_Qn, axis=1), NO_ROW),
            places_Qn + 1,
            np.take_along_axis(scores_QK, places_Qn, axis=1),
            np.full(columns_Qn.shape, np.nan),
        )
        if self.opinion is not None:
            negatives = self._without_objections(negatives, block, self.opinion, searcher.negatives)
        block.statistics.short += int(((negatives.rows_Qn != NO_ROW).sum(axis=1) < searcher.negatives).sum())
        return negatives

    def _keys(self, rows: np.ndarray) -> np.ndarray:
        return np.where(rows >= 0, self.texts.keys_N[np.maximum(rows, 0)], np.uint64(NO_KEY))

    def _scores_of_positives(self, answer: Answer, block: MinedBlock) -> np.ndarray:
        """Scores of the examples' positives. Those that the corpus lacks are embedded, if the search can do that."""
        missing_QP = block.positive_keys_QP == NO_KEY
        rows_QP = np.where(missing_QP, NO_ROW, self.texts.rows_of(block.positive_keys_QP))
        scores_QP = answer.scores_of(rows_QP)
        absent = np.argwhere((rows_QP == NO_ROW) & ~missing_QP).tolist()
        if absent and hasattr(answer, "scores_of_texts"):
            documents = [block.positives[query][column] for query, column in absent]
            asking = [query for query, _ in absent]
            scores_QP[tuple(np.transpose(absent))] = answer.scores_of_texts(asking, documents)
        return scores_QP

    def _without_objections(
        self, negatives: TakenPassages, block: MinedBlock, opinion: SecondOpinion, wanted: int
    ) -> TakenPassages:
        for start in range(0, len(block.questions), QUERIES_PER_OPINION):
            part = slice(start, start + QUERIES_PER_OPINION)
            places = np.argwhere(negatives.rows_Qn[part] != NO_ROW)
            shown = self.store.rows_shown(negatives.rows_Qn[part][tuple(places.T)], ["id", "title", "text"])
            pairs = [
                (block.questions[start + query], Document("", row["text"], row["title"]).full_text)
                for (query, _), row in zip(places.tolist(), shown, strict=True)
            ]
            negatives.teacher_Qn[part][tuple(places.T)] = opinion.cross_encoder.logits(pairs)
        found_Qn = negatives.rows_Qn != NO_ROW
        limit = 1.0 if opinion.max_probability is None else opinion.max_probability
        with np.errstate(over="ignore"):
            probability_Qn = 1 / (1 + np.exp(-negatives.teacher_Qn))
        kept_Qn = found_Qn & (probability_Qn <= limit)
        if opinion.min_positive_probability is not None:
            sure_Qn = found_Qn & (probability_Qn >= opinion.min_positive_probability)
            sure_Qn &= np.array([not some for some in block.positives])[:, None]
            block.pseudo_positives.append(negatives.first(sure_Qn.shape[1], sure_Qn))
            kept_Qn &= ~sure_Qn
        block.statistics.passed_over["a positive to the cross-encoder"] += int((found_Qn & ~kept_Qn).sum())
        return negatives.first(wanted, kept_Qn)

    def _score_positives(self, block: MinedBlock, cross_encoder: CrossEncoder) -> None:
        pairs = [
            (question, document.full_text)
            for question, some in zip(block.questions, block.positives, strict=True)
            for document in some
        ]
        block.positive_teacher_QP = np.full(block.positive_keys_QP.shape, np.nan)
        if pairs:
            block.positive_teacher_QP[block.positive_keys_QP != NO_KEY] = cross_encoder.logits(pairs)


def _least(scores_QP: np.ndarray) -> np.ndarray:
    """A negative must score below every positive; NaN if none has a score."""
    lowest_Q = np.where(np.isnan(scores_QP), np.inf, scores_QP).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(lowest_Q), lowest_Q, np.nan)


def _padded(rows: list[list[int]]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows), default=0)), NO_KEY, dtype=np.uint64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded
