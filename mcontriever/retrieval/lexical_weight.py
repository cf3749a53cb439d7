"""How much a shared word counts beside an encoder's score: measured on the store's own texts, without any label.

A few words in a row are taken out of a document. They are a question whose answer is known: the rest of that document,
among the others of its language. The weights of the encoder's calibrated score and of the lexical share that make the
rest most probable say which of the two knows more, and only their ratio is used. For a bag of words (nano) it is
more than twice that of multilingual E5. With few documents to ask of it stays near USUAL_RATIO.

Shapes: N rows of the sample, L languages, H dimensions, Q crops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mcontriever.chance import integers, permuted
from mcontriever.retrieval.calibration import Calibration
from mcontriever.retrieval.lexical_evidence import LexicalEvidence
from mcontriever.retrieval.lexical_index import LexicalIndex
from mcontriever.retrieval.terms import word_spans

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

SAMPLED_ROWS, MOST_CROPS = 3000, 200
CROP_WORDS, LEAST_WORDS = 8, 40
USUAL_RATIO, USUAL_LOG_DEVIATION = 16.0, 1.0
RATIOS = np.geomspace(1, 128, 29)
SCALES = np.geomspace(0.05, 8, 33)
SEED, STREAM = 0, "crops"


@dataclass(frozen=True)
class LexicalWeight:
    """`value` is in deviations of the calibrated score per share of 1; `crops` is how many said so."""

    value: float = USUAL_RATIO
    crops: int = 0


@dataclass(frozen=True)
class Crop:
    row: int
    question: str
    rest: str


def measure_lexical_weight(
    texts: Sequence[str], vectors_NH: np.ndarray, codes_N: np.ndarray, calibration: Calibration, encoder: "Encoder"
) -> LexicalWeight:
    """On a sample of rows: their texts, vectors, and languages."""
    crops = _crops(texts, codes_N)
    if not crops:
        return LexicalWeight()
    own_Q = np.array([crop.row for crop in crops])
    dense_QN = _dense_scores(crops, own_Q, vectors_NH, codes_N, calibration, encoder)
    shares_QN = _lexical_shares(crops, own_Q, texts, codes_N, len(calibration.means_LH))
    others_QN = codes_N[None] != codes_N[own_Q][:, None]
    others_QN |= _better_in_both(dense_QN, shares_QN, own_Q)
    gain = [_best_fit(dense_QN + ratio * shares_QN, own_Q, others_QN) for ratio in RATIOS]
    prior = -0.5 * np.square(np.log(RATIOS / USUAL_RATIO) / USUAL_LOG_DEVIATION)
    return LexicalWeight(float(RATIOS[np.argmax(gain + prior)]), len(crops))


def sampled_rows(live_rows: np.ndarray) -> np.ndarray:
    """Which rows to measure on, in order."""
    count = min(SAMPLED_ROWS, len(live_rows))
    return np.sort(live_rows[permuted(SEED, STREAM, len(live_rows), np.arange(count))]) if count else live_rows


def _crops(texts: Sequence[str], codes_N: np.ndarray) -> list[Crop]:
    """The same number from each language, as far as it has texts that are long enough."""
    wanted = min(MOST_CROPS, len(texts) // 2)
    order = permuted(SEED, STREAM, len(texts), np.arange(len(texts))) if len(texts) else np.zeros(0, dtype=np.int64)
    by_language: dict[int, list[Crop]] = {}
    languages = len(np.unique(codes_N))
    for row in order.tolist():
        own = by_language.setdefault(int(codes_N[row]), [])
        if len(own) < -(-wanted // languages) and (crop := _crop(row, texts[row])):
            own.append(crop)
    return [crop for code in sorted(by_language) for crop in by_language[code]]


def _crop(row: int, text: str) -> Crop | None:
    spans = list(word_spans(text))
    words = sum(weight for *_, weight in spans)
    if words < LEAST_WORDS:
        return None
    length = round(CROP_WORDS * len(spans) / words)
    first = int(integers(SEED, STREAM, row, high=len(spans) - length))
    start, stop = spans[first][0], spans[first + length - 1][1]
    return Crop(row, text[start:stop], f"{text[:start]} {text[stop:]}".strip())


def _dense_scores(
    crops: Sequence[Crop],
    own_Q: np.ndarray,
    vectors_NH: np.ndarray,
    codes_N: np.ndarray,
    calibration: Calibration,
    encoder: "Encoder",
) -> np.ndarray:
    queries_QH = calibration.queries(encoder.embed_queries([crop.question for crop in crops]))
    rests_QH = calibration.rows(encoder.embed_documents([crop.rest for crop in crops]), codes_N[own_Q])
    scores_QN = queries_QH @ calibration.rows(vectors_NH, codes_N).T
    scores_QN[np.arange(len(own_Q)), own_Q] = np.einsum("qh,qh->q", queries_QH, rests_QH)
    return scores_QN


def _lexical_shares(
    crops: Sequence[Crop], own_Q: np.ndarray, texts: Sequence[str], codes_N: np.ndarray, languages: int
) -> np.ndarray:
    index = LexicalIndex.build([list(texts), [crop.rest for crop in crops]])
    evidence = LexicalEvidence.of(index, np.concatenate([codes_N, codes_N[own_Q]]), languages)
    terms = index.tokenize([crop.question for crop in crops])
    shares_QN = np.stack([evidence.shares(terms_of_one).shares_N for terms_of_one in terms])
    own_shares_Q = shares_QN[np.arange(len(own_Q)), len(texts) + np.arange(len(own_Q))]
    shares_QN = shares_QN[:, : len(texts)]
    shares_QN[np.arange(len(own_Q)), own_Q] = own_shares_Q
    return shares_QN


def _better_in_both(dense_QN: np.ndarray, shares_QN: np.ndarray, own_Q: np.ndarray) -> np.ndarray:
    """Rows that no weights put below the rest of the crop's document: near duplicates of it, mostly."""
    places = np.arange(len(own_Q)), own_Q
    better_QN: np.ndarray = (dense_QN >= dense_QN[places][:, None]) & (shares_QN >= shares_QN[places][:, None])
    better_QN[places] = False
    return better_QN


def _best_fit(scores_QN: np.ndarray, own_Q: np.ndarray, others_QN: np.ndarray) -> float:
    """The log-probability of the rests under a softmax over rows of their language, at the scale that suits best."""
    scores_QN = np.where(others_QN, -np.inf, scores_QN)
    margins_QN = scores_QN - scores_QN[np.arange(len(own_Q)), own_Q][:, None]
    highest_Q = margins_QN.max(axis=1, keepdims=True)
    below_QN = margins_QN - highest_Q
    return max(
        -float((np.log(np.exp(scale * below_QN).sum(axis=1)) + scale * highest_Q[:, 0]).sum()) for scale in SCALES
    )
