from collections import Counter

import numpy as np
import pytest

from mcontriever.evaluation.language_bias import count_languages, merged, shares


def naive_share(hits: dict[str, float], languages: dict[str, str], own: str, k: int) -> float:
    """The best k by score, of equal scores the later id first, as pytrec_eval takes them."""
    ordered = sorted(hits, key=lambda document: (hits[document], document), reverse=True)[:k]
    return sum(languages[document] == own for document in ordered) / len(ordered)


def test_shares_equal_a_count_by_hand() -> None:
    random = np.random.default_rng(0)
    codes = ["ar", "en", "sw"]
    documents = {f"d{i}": codes[random.integers(3)] for i in range(40)}
    queries = {f"q{i}": codes[i % 3] for i in range(9)}
    hits = {query: {name: float(random.integers(5)) for name in documents} for query in queries}
    relevance = {query: {name: int(random.integers(2)) for name in documents} for query in queries}
    counts = count_languages(hits, relevance, queries, documents, k=7)
    for code in codes:
        own = [query for query in queries if queries[query] == code]
        expected = np.mean([naive_share(hits[query], documents, code, 7) for query in own])
        good = [name for query in own for name, grade in relevance[query].items() if grade > 0]
        assert counts.same_language_share(code) == (
            pytest.approx(expected),
            pytest.approx(sum(documents[name] == code for name in good) / len(good)),
        )
    assert counts.pool == Counter(documents.values())


def test_rows_of_the_heat_map_sum_to_one_and_languages_that_are_absent_are_zero() -> None:
    counts = count_languages(
        {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"c": 1}}, {"q": "sw"}, {"a": "en", "b": "en", "c": "sw"}, k=2
    )
    assert shares(counts.top, ["sw"], ["ar", "en", "sw"]) == [[0.0, 1.0, 0.0]]
    assert shares(counts.relevant, ["sw"], ["ar", "en", "sw"]) == [[0.0, 0.0, 1.0]]
    assert counts.same_language_share("sw") == (0.0, 1.0)


def test_subsets_of_one_pool_merge() -> None:
    pool = {"a": "en", "b": "sw"}
    parts = [
        count_languages({"q1": {"a": 1.0}}, {"q1": {"a": 1}}, {"q1": "en"}, pool),
        count_languages({"q2": {"a": 1.0}}, {"q2": {"b": 1}}, {"q2": "sw"}, pool),
    ]
    assert merged(parts).top == {"en": {"en": 1}, "sw": {"en": 1}}
    assert merged(parts).relevant == {"en": {"en": 1}, "sw": {"sw": 1}}
