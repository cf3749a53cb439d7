"""lexical_evidence.py against BM25 of each language alone, by its formula."""

import math

import numpy as np
import pytest

from mcontriever.retrieval.lexical_evidence import LexicalEvidence, Shares, root_mean_square
from mcontriever.retrieval.lexical_index import LexicalIndex, tokenize_words

TEXTS = ["na maji na mto", "na mto Nairobi", "na jua kali", "na kali sana", "the river Nairobi", "the sun", "the water"]
CODES = np.array([1, 1, 1, 1, 0, 0, 0])
K1, B = 1.5, 0.75


def naive_shares(query: str) -> np.ndarray:
    terms = [tokenize_words([text])[0] for text in TEXTS]
    average = np.mean([len(own) for own in terms])
    shares = np.zeros(len(TEXTS))
    for row, own in enumerate(terms):
        language = [other for other, code in zip(terms, CODES, strict=True) if code == CODES[row]]
        most = 0.0
        for term in tokenize_words([query])[0]:
            count = sum(term in other for other in language)
            idf = math.log(1 + (len(language) - count + 0.5) / (count + 0.5))
            times = own.count(term)
            shares[row] += idf * times / (times + K1 * (1 - B + B * len(own) / average))
            most += idf
        shares[row] /= most
    return shares


@pytest.mark.parametrize("query", ["na mto Nairobi", "the river unheardof", "mto mto sun"])
def test_shares_equal_the_formula(query: str) -> None:
    index = LexicalIndex.build([TEXTS])
    found = LexicalEvidence.of(index, CODES, 2).shares(index.tokenize([query])[0])
    np.testing.assert_allclose(found.shares_N, naive_shares(query), rtol=1e-4, atol=1e-6)
    assert found.best_L.tolist() == [found.shares_N[code == CODES].max() for code in (0, 1)]


def test_the_query_s_language_is_where_its_words_are_common() -> None:
    index = LexicalIndex.build([TEXTS])
    evidence = LexicalEvidence.of(index, CODES, 2)
    assert evidence.shares(index.tokenize(["na kali Nairobi"])[0]).own_L[1] == 1
    assert evidence.shares(index.tokenize(["the sun of Nairobi"])[0]).own_L[0] == 1
    assert evidence.shares(index.tokenize(["nothing known"])[0]).own_L.tolist() == [0, 0]


def test_rows_that_are_not_allowed_are_not_the_best() -> None:
    index = LexicalIndex.build([TEXTS])
    allowed_N = np.array([True, False, True, True, True, True, True])
    found = LexicalEvidence.of(index, CODES, 2).shares(index.tokenize(["mto Nairobi"])[0], allowed_N)
    assert found.shares_N[1] == 0
    assert found.best_L[1] == found.shares_N[0] > 0


def test_two_kinds_of_terms_are_a_root_mean_square() -> None:
    one = Shares(np.array([0.6, 0.0]), np.array([0.6]), np.array([1.0]))
    other = Shares(np.array([0.8, 0.2]), np.array([0.8]), np.array([0.0]))
    both = root_mean_square([one, other])
    np.testing.assert_allclose(both.shares_N, np.sqrt([0.5, 0.02]))
    assert root_mean_square([one]) is one
