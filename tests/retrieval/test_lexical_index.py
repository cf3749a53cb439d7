"""lexical.py: the scores of Lucene's BM25 formula, ties by row, words and subwords."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mcontriever.disk import FolderLock
from mcontriever.encoder import Encoder
from mcontriever.errors import StoreError
from mcontriever.retrieval.lexical_index import (
    LexicalIndex,
    open_lexical_index,
    subword_tokenizer,
    tokenize_words,
    top_rows,
)
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.terms import document_terms, index_terms
from tests.conftest import SENTENCES
from tests.retrieval.small_corpora import make_store, mixed_documents

TEXTS = [text for texts in SENTENCES.values() for text in texts] + [
    "",
    "rain rain rain",
    "雨水雨水",
    "la pluie a passé",
    "le passe",
]


def naive_bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    documents = [Counter(document_terms(text)) for text in texts]
    mean = sum(document.total() for document in documents) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for term in index_terms(query):
            frequency = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5))
            saturation = document[term] / (document[term] + k1 * (1 - b + b * document.total() / mean))
            score += idf * saturation
        scores.append(score)
    return scores


@pytest.mark.parametrize(
    "query", ["the rain falls on the hills", "雨水", "المطر على السفوح", "rain", "नदी समुद्र", "pluie passé", "passe"]
)
def test_scores_are_the_formulas(query: str) -> None:
    expected = np.array(naive_bm25(TEXTS, query))
    scores, rows = LexicalIndex.build([TEXTS[:9], TEXTS[9:]]).search([query], len(TEXTS))
    found = rows[0] >= 0
    assert found.sum() == (expected > 0).sum()
    np.testing.assert_allclose(scores[0][found], np.sort(expected[expected > 0])[::-1], rtol=1e-5)
    np.testing.assert_allclose(expected[rows[0][found]], scores[0][found], rtol=1e-5)


def test_a_question_may_leave_accents_out_and_with_them_finds_only_them() -> None:
    index = LexicalIndex.build([["el año nuevo", "un ano", "sin nada"]])
    found = [sorted(row for row in rows if row >= 0) for rows in index.search(["ano", "año"], 3)[1].tolist()]
    assert found == [[0, 1], [0]]


def test_no_shared_term_no_hit_and_masked_rows_stay_out(tmp_path: Path) -> None:
    index = LexicalIndex.build([TEXTS])
    scores, rows = index.search(["qqqq", "", "rain"], 3)
    assert rows[:2].tolist() == [[-1] * 3] * 2
    assert scores[:2].sum() == 0
    best = rows[2, 0]
    allowed = np.arange(len(TEXTS)) != best
    assert best not in index.search(["rain"], 5, allowed)[1]
    index.save(tmp_path / "saved")
    again = LexicalIndex.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.search(["rain", "雨水"], 5)[1], index.search(["rain", "雨水"], 5)[1])


def test_equal_scores_come_in_the_order_of_the_rows() -> None:
    scores = np.array([0, 3, 1, 3, 2, 1, 1, 0], dtype=np.float32)
    assert top_rows(scores, 4)[1].tolist() == [1, 3, 4, 2]
    assert top_rows(scores, 5)[1].tolist() == [1, 3, 4, 2, 5]
    assert top_rows(scores, 50)[1].tolist() == [1, 3, 4, 2, 5, 6]
    assert top_rows(scores, 2, scores < 3)[1].tolist() == [4, 2]


def test_a_corpus_without_words_finds_nothing() -> None:
    _, rows = LexicalIndex.build([["...", "!"]]).search(["rain"], 2)
    assert rows.tolist() == [[-1, -1]]


def test_subwords_are_the_tokenizers(encoder: Encoder) -> None:
    texts = [TEXTS[0], TEXTS[5], ""]
    expected = encoder.tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert subword_tokenizer(encoder.tokenizer)(texts) == [[str(token) for token in row] for row in expected]
    assert tokenize_words(texts)[2] == []


def test_the_stores_index_is_kept_and_made_again_when_rows_change(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", mixed_documents(20), encoder)
    expected = naive_bm25([document.full_text for document in mixed_documents(20)], "telescope shows moons")
    scores, rows = open_lexical_index(store, "words").search(["telescope shows moons"], 1)
    assert rows[0, 0] == np.argmax(expected)
    assert scores[0, 0] == pytest.approx(max(expected), rel=1e-5)
    made = (derived.folder_of(store, "bm25-words") / "manifest.json").stat().st_mtime_ns
    open_lexical_index(store, "words")
    assert (derived.folder_of(store, "bm25-words") / "manifest.json").stat().st_mtime_ns == made
    open_lexical_index(store, "subwords", encoder.tokenizer)
    assert {"bm25-subwords", "bm25-words"} <= set(derived.kinds_newest_first(store))
    from tests.retrieval.store.test_store_runs import add

    store = add(store.folder, mixed_documents(3, prefix="new"), encoder, "append")
    assert open_lexical_index(store, "words").model.scores["num_docs"] == 23


def test_a_store_without_texts_has_nothing_to_read(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", mixed_documents(5), None, keeps_text=False)
    with pytest.raises(StoreError, match="BM25 has nothing to read"):
        open_lexical_index(EmbeddingStore.open(store.folder), "words")


def test_an_index_that_is_there_is_read_without_the_right_to_write(tmp_path: Path) -> None:
    """Whoever makes one holds a lock, for which a reader neither asks nor waits."""
    store = make_store(tmp_path / "s", mixed_documents(5), None)
    open_lexical_index(store, "words")
    with FolderLock(store.folder / derived.FOLDER):
        assert open_lexical_index(store, "words").model.scores["num_docs"] == 5
