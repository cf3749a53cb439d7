"""fusion.py against the formulas, written out."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mcontriever.retrieval.fusion import blend, reciprocal_rank_fusion, weighted_fusion

scores = st.floats(-50, 50, allow_nan=False, width=32)
rankings = st.dictionaries(st.integers(0, 30), scores, max_size=15).map(
    lambda found: sorted(found.items(), key=lambda item: -item[1])
)


@given(rankings, rankings)
def test_reciprocal_ranks(first: list[tuple[int, float]], second: list[tuple[int, float]]) -> None:
    def reciprocal(ranking: list[tuple[int, float]], document: int) -> Fraction:
        places = [document for document, _ in ranking]
        return Fraction(1, 61 + places.index(document)) if document in places else Fraction(0)

    documents = {document for document, _ in [*first, *second]}
    expected = {document: reciprocal(first, document) + reciprocal(second, document) for document in documents}
    fused = reciprocal_rank_fusion([first, second])
    assert {document: round(score, 12) for document, score in fused} == {
        document: round(float(score), 12) for document, score in expected.items()
    }
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


def test_equal_sums_come_in_the_order_of_the_documents() -> None:
    assert [document for document, _ in reciprocal_rank_fusion([[(7, 2.0), (3, 1.0)], [(3, 9.0), (7, 8.0)]])] == [3, 7]


def test_weighted_scores() -> None:
    dense, lexical = [(1, 0.9), (2, 0.8), (3, 0.5)], [(3, 20.0), (4, 10.0)]
    fused = dict(weighted_fusion([dense, lexical], [0.25, 0.75]))
    assert fused == {1: 0.25, 2: 0.25 * (0.8 - 0.5) / (0.9 - 0.5), 3: 0.75, 4: 0.0}


def test_blending_keeps_the_scores_own_scale() -> None:
    dense, words, subwords = [(1, 0.9), (2, 0.5)], [(2, 0.4), (3, 0.1)], [(3, 0.2)]
    fused = blend([dense], [words, subwords], 0.3)
    assert [document for document, _ in fused] == [2, 1, 3]
    expected = {1: 0.3 * 0.9, 2: 0.3 * 0.5 + 0.7 * (0.4**2 / 2) ** 0.5, 3: 0.7 * ((0.1**2 + 0.2**2) / 2) ** 0.5}
    assert all(abs(score - expected[document]) < 1e-12 for document, score in fused)


def test_blending_one_kind_alone() -> None:
    assert blend([[(1, 0.9), (2, 0.5)]], []) == [(1, 0.9), (2, 0.5)]
    (best, share), (other, half) = blend([], [[(4, 0.6)], [(4, 0.6), (2, 0.1)]])
    assert (best, other) == (4, 2)
    assert abs(share - 0.6) < 1e-12
    assert abs(half - 0.1 / 2**0.5) < 1e-12


def test_a_ranking_of_equal_scores_and_an_empty_one() -> None:
    assert weighted_fusion([[(1, 0.5), (2, 0.5)], []], [0.5, 0.5]) == [(1, 0.5), (2, 0.5)]
