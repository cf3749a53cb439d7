"""lexical_weight.py: what an encoder knows decides how much a shared word counts beside it."""

import numpy as np
import pytest

from mcontriever.retrieval.calibration import Calibration
from mcontriever.retrieval.language_statistics import LanguageStatistics
from mcontriever.retrieval.lexical_weight import USUAL_RATIO, measure_lexical_weight, sampled_rows

DIMENSION = 400
WORDS = [f"w{number}" for number in range(400)]


def texts_about(rng: np.random.Generator, count: int) -> list[str]:
    """Each of 60 words: some of a topic of its own, the others any."""
    texts = []
    for _ in range(count):
        topic = rng.choice(WORDS, 12, replace=False)
        texts.append(" ".join(rng.choice(topic) if rng.random() < 0.3 else rng.choice(WORDS) for _ in range(60)))
    return texts


class WordSums:
    """An encoder that sums vectors of words, with so much noise."""

    def __init__(self, noise: float) -> None:
        self.vectors = dict(zip(WORDS, np.eye(DIMENSION), strict=True))
        self.noise, self.rng = noise, np.random.default_rng(1)

    def embed_queries(self, texts: list[str]) -> np.ndarray:
        sums = np.stack([sum(self.vectors[word] for word in text.split()) for text in texts])
        sums = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return (sums + self.noise * self.rng.standard_normal(sums.shape) / np.sqrt(DIMENSION)).astype(np.float32)

    embed_documents = embed_queries


def weight_of(noise: float) -> float:
    texts, encoder = texts_about(np.random.default_rng(0), 120), WordSums(noise)
    vectors_NH, codes_N = encoder.embed_documents(texts), np.zeros(len(texts), dtype=np.int64)
    calibration = Calibration.of(LanguageStatistics.of_vectors(vectors_NH, ["en"] * len(texts)), is_unit=True)
    return measure_lexical_weight(texts, vectors_NH, codes_N, calibration, encoder).value  # type: ignore[arg-type]


def test_words_count_more_beside_an_encoder_that_knows_less() -> None:
    good, noisy, useless = weight_of(0.0), weight_of(0.7), weight_of(5.0)
    assert good < noisy < useless


def test_short_texts_give_no_crops() -> None:
    texts, encoder = ["w1 w2 w3"] * 30, WordSums(0)
    vectors_NH, codes_N = encoder.embed_documents(texts), np.zeros(30, dtype=np.int64)
    calibration = Calibration.of(LanguageStatistics.of_vectors(vectors_NH, ["en"] * 30), is_unit=True)
    found = measure_lexical_weight(texts, vectors_NH, codes_N, calibration, encoder)  # type: ignore[arg-type]
    assert (found.value, found.crops) == (USUAL_RATIO, 0)


@pytest.mark.parametrize("rows", [0, 7, 5000])
def test_the_sample_is_of_live_rows_and_always_the_same(rows: int) -> None:
    live = np.arange(rows) * 3
    found = sampled_rows(live)
    assert len(found) == min(rows, 3000) == len(np.unique(found))
    assert np.isin(found, live).all()
    np.testing.assert_array_equal(found, sampled_rows(live))
