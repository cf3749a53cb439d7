"""unanswered.py: what questions without an answer score, against searches that may not find the document."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever.disk import read_json, write_json
from mcontriever.encoder import Encoder
from mcontriever.retrieval.calibrated_search import DEPTH_WITHOUT_ANSWER, CalibratedSearch
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.lexical_evidence import LexicalEvidence
from mcontriever.retrieval.lexical_index import open_lexical_index
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import derived, store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.terms import word_spans
from mcontriever.retrieval.unanswered import (
    LEAST_WORDS,
    MOST_WORDS,
    QUESTIONS,
    USUAL_DEVIATION,
    USUAL_MEAN,
    USUAL_WEIGHT,
    Unanswered,
    measure,
    open_unanswered,
    piece_of,
)
from mcontriever.texts.documents import Query
from tests.conftest import SENTENCES
from tests.retrieval.small_corpora import all_ids, make_store, mixed_documents

DOCUMENTS = mixed_documents(40)


class Asked:
    """Answers every question with one score, and keeps what was asked."""

    def __init__(self, score: float = 0.0) -> None:
        self.score, self.pairs = score, list[tuple[str, slice]]()

    def __call__(self, questions: Any, without: Any) -> list[float]:
        self.pairs += zip(questions, without, strict=True)
        return [self.score] * len(questions)


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_every_question_is_asked_without_its_document(tmp_path: Path, encoder: Encoder, mode: Any) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS, encoder, dtype="fp32", passage_words=12, passage_overlap=2)
    asked, ids, codes_N = Asked(), np.array(all_ids(store)), store.text_languages[0]
    measure(store, asked)
    assert len(store) > len(DOCUMENTS)
    assert len(asked.pairs) == min(QUESTIONS, len(store))
    lexical = [LexicalEvidence.of(open_lexical_index(store, "words"), codes_N, len(store.text_languages[1]))]
    dense = DenseSearch.calibrated(store, encoder, 200 << 20)
    lexical = lexical if mode == "hybrid" else []
    search = CalibratedSearch(store=store, dense=dense, lexical=lexical, depth=DEPTH_WITHOUT_ANSWER)
    scores = []
    for question, own in asked.pairs:
        (document,) = set(ids[own])
        best = next(search.rank([Query("", question)], 1, ids != document))[0]
        scores.append(best.score - math.log(np.count_nonzero(ids != document)))
    expected = Unanswered.of_scores(scores)
    Index(store, encoder=encoder).search("telescope", mode=mode)
    kept = open_unanswered(store, "words" if mode == "hybrid" else "dense", Asked(1e9))
    assert (kept.mean, kept.deviation) == pytest.approx((expected.mean, expected.deviation), abs=1e-3)


def test_few_questions_lean_on_what_is_usual() -> None:
    assert Unanswered.of_scores([]) == Unanswered(USUAL_MEAN, USUAL_DEVIATION)
    scores = np.random.default_rng(0).normal(10, 3, 4 * USUAL_WEIGHT)
    found = Unanswered.of_scores(scores.tolist())
    assert found.mean == pytest.approx(0.8 * scores.mean() + 0.2 * USUAL_MEAN)
    assert found.deviation == pytest.approx(0.8 * scores.std() + 0.2 * USUAL_DEVIATION)


def test_confidence_rises_with_the_score_and_falls_with_rows() -> None:
    found = Unanswered(2.0, 4.0).confidence(np.array([-1e6, 0.0, 6.0, 30.0, 1e6]), 100)
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] < 1e-9
    assert 1 - 1e-9 < found[-1] <= 1
    shifted = Unanswered(2.0, 4.0).confidence(np.array([6.0 + math.log(1000)]), 100_000)
    assert shifted[0] == pytest.approx(found[2])


@pytest.mark.parametrize("language", list(SENTENCES))
def test_a_piece_is_some_words_in_a_row(language: str) -> None:
    text = " ".join(SENTENCES[language])
    random, found = np.random.default_rng(0), set()
    for _ in range(50):
        piece = piece_of(text, random)
        assert piece in text
        assert LEAST_WORDS <= sum(weight for _, _, weight in word_spans(piece)) <= MOST_WORDS
        found.add(piece)
    assert len(found) > 10


def test_pieces_of_short_texts() -> None:
    random = np.random.default_rng(0)
    assert piece_of("two words", random) == "two words"
    assert piece_of(" ... !", random) == ""


def test_it_is_kept_until_the_store_has_changed_much(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS, encoder)
    first, again = Asked(5.0), Asked(50.0)
    made = open_unanswered(store, "dense", first)
    assert len(first.pairs) == 40
    assert open_unanswered(store, "dense", again) == made
    store_edits.delete(store.folder, [document.id for document in DOCUMENTS[:8]])
    store = EmbeddingStore.open(store.folder)
    assert open_unanswered(store, "dense", again) == made
    store_edits.delete(store.folder, [DOCUMENTS[8].id])
    store = EmbeddingStore.open(store.folder)
    assert open_unanswered(store, "dense", again) != made
    ids = all_ids(store)
    assert {ids[own.start] for _, own in again.pairs} == {document.id for document in DOCUMENTS[9:]}


@pytest.mark.parametrize("change", [{"deviation": 0.0}, {"mean": "much"}, {"revision": 0}, {"live_rows": None}])
def test_what_cannot_be_used_is_measured_again(tmp_path: Path, encoder: Encoder, change: dict[str, Any]) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:5], encoder)
    made = open_unanswered(store, "dense", Asked(5.0))
    path = derived.folder_of(store, "unanswered-dense") / derived.MANIFEST
    write_json(path, {**read_json(path), **change})
    again = Asked(5.0)
    assert open_unanswered(store, "dense", again) == made
    assert len(again.pairs) == 5


def test_a_store_without_texts_has_what_is_usual(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:5], encoder, keeps_text=False)
    hits = Index(store, encoder=encoder).search("telescope", merge="calibrated")
    usual = Unanswered.of_scores([]).confidence(np.array([hit.score for hit in hits]), 5)
    assert [hit.confidence for hit in hits] == pytest.approx(usual.tolist())


def test_a_store_of_one_document(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:1], encoder)
    for mode in ("dense", "hybrid"):
        (hit,) = Index(store, encoder=encoder).search("telescope", mode=mode, merge="calibrated")
        assert 0 < (hit.confidence or 0) < 1
