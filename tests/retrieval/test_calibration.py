"""calibration.py against loops over languages, and for languages of few documents and vectors that say nothing."""

from pathlib import Path

import numpy as np
import pytest

from mcontriever.retrieval.calibration import SHARED_PART, SPREAD_PRIOR_ROWS, CalibratedVectors, Calibration
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.vectors import ArrayVectors
from tests.retrieval.small_corpora import statistics_of, unit_rows

DIMENSION = 12


def corpus(counts: dict[str, int], seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Rows around a mean for each language, of length one."""
    rng = np.random.default_rng(seed)
    languages = [name for name, count in counts.items() for _ in range(count)]
    offsets = {name: rng.standard_normal(DIMENSION) for name in counts}
    rows = np.stack([2 * offsets[name] for name in languages]) + rng.standard_normal((len(languages), DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), languages


def calibrated(vectors_NH: np.ndarray, languages: list[str], is_unit: bool = True) -> tuple[Calibration, np.ndarray]:
    calibration = Calibration.of(statistics_of(vectors_NH, languages), is_unit=is_unit)
    return calibration, np.unique(languages, return_inverse=True)[1]


def test_rows_and_queries_equal_a_loop() -> None:
    vectors_NH, languages = corpus({"ar": 200, "en": 300, "sw": 250})
    calibration, codes_N = calibrated(vectors_NH, languages)
    queries_QH = unit_rows(np.random.default_rng(1), 5, DIMENSION)
    within = np.zeros((DIMENSION, DIMENSION))
    for name in ("ar", "en", "sw"):
        own = vectors_NH[np.array(languages) == name].astype(np.float64)
        within += (own - own.mean(axis=0)).T @ (own - own.mean(axis=0)) / len(languages)
        centred = own - own.mean(axis=0)
        expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        found = calibration.rows(own.astype(np.float32), np.full(len(own), np.unique(languages).tolist().index(name)))
        np.testing.assert_allclose(found, expected, atol=0.02)  # of so many documents nearly the own mean is taken
    shifted = without_language(queries_QH, calibration.means_LH[codes_N], vectors_NH.mean(axis=0), within)
    shifted -= SHARED_PART * vectors_NH.mean(axis=0)
    deviations = np.sqrt([query @ within @ query / np.trace(within) for query in shifted])
    np.testing.assert_allclose(calibration.queries(queries_QH), shifted / deviations[:, None], atol=0.02)
    scores = calibration.queries(queries_QH) @ calibration.rows(vectors_NH, codes_N).T
    assert scores.mean() == pytest.approx(0, abs=0.1)
    for name in ("ar", "en", "sw"):
        assert scores[:, np.array(languages) == name].std() == pytest.approx(1, abs=0.2)


def without_language(
    queries_QH: np.ndarray, means_NH: np.ndarray, overall_H: np.ndarray, within_HH: np.ndarray
) -> np.ndarray:
    """Queries less the part of their offset that languages explain, along each axis of the covariance of the means.

    `means_NH` has the mean of its language for each row.
    """
    between, axes = np.linalg.eigh((means_NH - overall_H).T @ (means_NH - overall_H) / len(means_NH))
    for variance, axis in zip(between, axes.T, strict=True):
        share = max(variance, 0) / (max(variance, 0) + axis @ within_HH @ axis)
        queries_QH = queries_QH - share * np.outer((queries_QH - overall_H) @ axis, axis)
    return queries_QH


def test_a_question_loses_its_language_and_keeps_its_topic() -> None:
    vectors_NH, languages = corpus({"ar": 400, "en": 400, "sw": 400})
    calibration, codes_N = calibrated(vectors_NH, languages)
    raw_LH = np.stack([vectors_NH[codes_N == code].mean(axis=0) for code in range(3)])
    apart, still = (
        np.ptp(means_LH @ (raw_LH - raw_LH.mean(axis=0)).T, axis=0)
        for means_LH in (
            raw_LH,
            raw_LH - ((raw_LH - calibration.overall_H) @ calibration.language_LH.T) @ calibration.language_LH,
        )
    )
    assert (still < 0.5 * apart).all()
    of_one, _ = calibrated(vectors_NH[:400], ["ar"] * 400)
    np.testing.assert_allclose(of_one.language_LH, 0, atol=1e-3)


def test_without_unit_length_a_language_is_divided_by_its_spread() -> None:
    vectors_NH, languages = corpus({"ar": 400, "en": 400})
    vectors_NH[:400] *= 3
    calibration, codes_N = calibrated(vectors_NH, languages, is_unit=False)
    rows_NH = calibration.rows(vectors_NH, codes_N)
    scatter = [400 * vectors_NH[codes_N == code].var(axis=0).sum() for code in (0, 1)]
    for code in (0, 1):
        spread = (scatter[code] + SPREAD_PRIOR_ROWS * sum(scatter) / 800) / (400 + SPREAD_PRIOR_ROWS)
        found = np.square(rows_NH[codes_N == code]).sum(axis=1).mean()
        assert found == pytest.approx(scatter[code] / 400 / spread, rel=0.1)


@pytest.mark.parametrize("few", [1, 5, 20])
def test_a_language_of_few_documents_leans_on_the_whole(few: int) -> None:
    """A document alone is not its own mean, and a few are not centred as far as many."""
    vectors_NH, languages = corpus({"ar": 500, "en": 500, "ur": few})
    calibration, codes_N = calibrated(vectors_NH, languages)
    own_NH = vectors_NH[codes_N == 2]
    overall_H = vectors_NH.mean(axis=0)
    trust = np.linalg.norm(calibration.means_LH[2] - overall_H) / np.linalg.norm(own_NH.mean(axis=0) - overall_H)
    many = np.linalg.norm(calibration.means_LH[0] - overall_H) / np.linalg.norm(vectors_NH[:500].mean(0) - overall_H)
    assert 0 < trust < many <= 1
    assert np.abs(calibration.rows(own_NH, np.full(few, 2))).max() > 0.05


@pytest.mark.parametrize(
    "vectors_NH", [np.ones((6, DIMENSION), np.float32), np.zeros((6, DIMENSION), np.float32)], ids=["equal", "zero"]
)
def test_vectors_that_say_nothing_score_nothing(vectors_NH: np.ndarray) -> None:
    calibration, codes_N = calibrated(vectors_NH, ["ar", "ar", "en", "en", "en", "sw"])
    queries_QH = np.concatenate([unit_rows(np.random.default_rng(0), 3, DIMENSION), np.zeros((1, DIMENSION))])
    scores = calibration.queries(queries_QH) @ calibration.rows(vectors_NH, codes_N).T
    np.testing.assert_array_equal(scores, np.zeros((4, 6)))


def test_calibrated_vectors_and_saving(tmp_path: Path) -> None:
    vectors_NH, languages = corpus({"ar": 30, "en": 40})
    calibration, codes_N = calibrated(vectors_NH, languages)
    calibration.save(tmp_path)
    vectors = CalibratedVectors(ArrayVectors(vectors_NH), codes_N, Calibration.load(tmp_path))
    rows_NH = calibration.rows(vectors_NH, codes_N)
    np.testing.assert_array_equal(np.concatenate(list(vectors.pieces(5, 50))), rows_NH[5:50])
    np.testing.assert_array_equal(vectors.take(np.array([60, 3])), rows_NH[[60, 3]])
    assert (len(vectors), vectors.dimension) == (70, DIMENSION)


@pytest.mark.parametrize("is_unit", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_few_queries_need_no_calibrated_rows(count: int, is_unit: bool) -> None:
    """The scan of a query alone goes through the source's products, also where a row says nothing."""
    vectors_NH, languages = corpus({"ar": 300, "en": 200, "ur": 1})
    calibration, codes_N = calibrated(vectors_NH, languages, is_unit)
    vectors_NH[7] = calibration.means_LH[codes_N[7]]
    queries_QH = calibration.queries(unit_rows(np.random.default_rng(2), count, DIMENSION))
    expected = queries_QH @ calibration.rows(vectors_NH, codes_N).T
    assert (expected[:, 7] == 0).all()
    search = ExactSearch(CalibratedVectors(ArrayVectors(vectors_NH), codes_N, calibration), memory_bytes=1 << 16)
    for allowed_N in (None, np.arange(len(vectors_NH)) % 3 > 0, None):  # once more with what is kept
        scores, rows = search.search(queries_QH, 20, allowed_N)
        among = expected if allowed_N is None else np.where(allowed_N, expected, -np.inf)
        np.testing.assert_array_equal(rows, np.argsort(-among, axis=1, kind="stable")[:, :20])
        np.testing.assert_allclose(scores, -np.sort(-among, axis=1)[:, :20], atol=1e-5)
