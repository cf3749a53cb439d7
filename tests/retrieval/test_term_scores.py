"""BM25's scores made in files, against bm25s, which makes them in memory."""

import random
from pathlib import Path

import bm25s
import numpy as np
import pytest

from mcontriever.retrieval import term_scores
from mcontriever.retrieval.lexical_index import LexicalIndex


def drawn_texts(count: int) -> list[str]:
    """Some without words, some with a word several times."""
    drawn = random.Random(0)
    return [" ".join(drawn.choices([f"w{word}" for word in range(30)], k=drawn.randint(0, 40))) for _ in range(count)]


def split(texts: list[str]) -> list[list[str]]:
    return [text.split() for text in texts]


@pytest.mark.parametrize("pairs_at_once", [7, 1 << 20])
@pytest.mark.parametrize("batch", [1, 64])
def test_the_arrays_are_those_of_bm25s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch: int, pairs_at_once: int
) -> None:
    monkeypatch.setattr(term_scores, "PAIRS_AT_ONCE", pairs_at_once)
    texts = drawn_texts(200)
    found = LexicalIndex.build((texts[start : start + batch] for start in range(0, 200, batch)), split, tmp_path).model
    vocabulary = {term: number for term, number in found.vocab_dict.items() if term}
    rows = [[vocabulary[term] for term in text.split()] for text in texts]
    expected = bm25s.BM25()
    expected.index(bm25s.tokenization.Tokenized(ids=rows, vocab=vocabulary), show_progress=False)
    for name in ("indptr", "indices"):
        np.testing.assert_array_equal(found.scores[name], expected.scores[name])
    np.testing.assert_allclose(found.scores["data"], expected.scores["data"], rtol=2e-7)
    assert found.scores["num_docs"] == 200
    assert found.scores["data"].dtype == expected.scores["data"].dtype
    assert list(tmp_path.iterdir()) == []
