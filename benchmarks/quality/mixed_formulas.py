"""Rules for hybrid search in mixed corpora, tried over vectors and words that are made once.

    python benchmarks/quality/mixed_formulas.py --model nano --half odd --questions 500 FOLDER... --output FILE.json

For each folder in BEIR layout, nDCG@10 with every document scored: of vectors, BM25, the first version's blend, the
model's rule, and the default rule with the tail of unrelated scores measured on the folder; and of vectors and the
model's rule with all texts in one language, or with clusters of the vectors in place of languages.

Shapes: Q questions, N documents, L languages, P pieces of documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pools import mean_ndcg, measure_pools, relevant_ids

from mcontriever.encoder import Encoder
from mcontriever.evaluation.dev_sets import DevSet
from mcontriever.evidence_rule import DEFAULT_RULE, EvidenceRule
from mcontriever.retrieval.calibrated_search import FAMILIAR
from mcontriever.retrieval.calibration import Calibration
from mcontriever.retrieval.fusion import BLENDED_DENSE_WEIGHT
from mcontriever.retrieval.language_statistics import LanguageStatistics
from mcontriever.retrieval.lexical_evidence import LexicalEvidence
from mcontriever.retrieval.lexical_index import LexicalIndex
from mcontriever.retrieval.unanswered import piece_of
from mcontriever.texts.documents import Query
from mcontriever.texts.language_detection import with_detected_languages

PIECES, TAIL = 200, 0.003
WEIGHT_BESIDE_A_MEASURED_TAIL, BEST_BESIDE_A_MEASURED_TAIL = 48.0, 0.25
CLUSTERS, ROUNDS = (5, 8, 16), 25


def _scores(encoder: Encoder, pool: DevSet, queries: Sequence[Query]) -> dict[str, float]:
    texts = [query.text for query in queries]
    documents = with_detected_languages(pool.documents)
    index = LexicalIndex.build([[document.full_text for document in documents]])
    vectors_NH = encoder.embed_documents([one.text for one in documents], [one.title for one in documents])
    queries_QH = encoder.embed_queries(texts)
    named = np.unique([one.text_language or one.language for one in documents], return_inverse=True)[1]
    rule = encoder.evidence_rule or DEFAULT_RULE
    tables = {
        "languages": Tables.of(vectors_NH, queries_QH, named, index, texts),
        "one language": Tables.of(vectors_NH, queries_QH, np.zeros_like(named), index, texts),
        **{
            f"{count} clusters": Tables.of(vectors_NH, queries_QH, clusters(vectors_NH, count), index, texts)
            for count in CLUSTERS
        },
    }
    measured = Tail.of(tables["languages"], pool, encoder)
    ways = {
        "BM25": _blended_shares(index, texts),
        "raw": raw_hybrid(vectors_NH, queries_QH, index, texts),
        "measured tail": tables["languages"].with_tail(measured),
    }
    for name, table in tables.items():
        ways |= {f"{name}: vectors": table.z_QN, f"{name}: hybrid": table.hybrid(rule)}
    ids_N = np.array([document.id for document in documents])
    relevant = [relevant_ids(pool, query) for query in queries]
    found = {}
    for name, scores_QN in ways.items():
        best_QK = np.argsort(-scores_QN, axis=1, kind="stable")[:, :10]
        found[name] = mean_ndcg(ids_N[best_QK].tolist(), relevant)
    return {"slope of the tail": round(measured.slope, 2), **found}


@dataclass(frozen=True, eq=False)
class Tables:
    """What the rules are made of, for texts in these languages; `best_QN` and `own_QN` are of a document's language."""

    calibration: Calibration
    rows_NH: np.ndarray
    z_QN: np.ndarray
    shares_QN: np.ndarray
    best_QN: np.ndarray
    own_QN: np.ndarray

    @classmethod
    def of(
        cls,
        vectors_NH: np.ndarray,
        queries_QH: np.ndarray,
        codes_N: np.ndarray,
        index: LexicalIndex,
        texts: Sequence[str],
    ) -> "Tables":
        languages = int(codes_N.max()) + 1
        statistics = LanguageStatistics.empty([str(code) for code in range(languages)], vectors_NH.shape[1])
        statistics.add(vectors_NH, codes_N)
        calibration = Calibration.of(statistics, is_unit=True)
        rows_NH = calibration.rows(vectors_NH, codes_N)
        evidence = LexicalEvidence.of(index, codes_N, languages)
        shares = [evidence.shares(terms) for terms in index.tokenize(texts)]
        return cls(
            calibration,
            rows_NH,
            calibration.queries(queries_QH) @ rows_NH.T,
            np.stack([one.shares_N for one in shares]),
            np.stack([one.best_L[codes_N] for one in shares]),
            np.stack([one.own_L[codes_N] for one in shares]),
        )

    def hybrid(self, rule: EvidenceRule) -> np.ndarray:
        words_QN = rule.of_words(self.shares_QN, self.best_QN) - rule.words * FAMILIAR * self.own_QN
        return rule.of_scores(self.z_QN) + words_QN

    def with_tail(self, tail: "Tail") -> np.ndarray:
        words_QN = np.maximum(
            self.shares_QN - BEST_BESIDE_A_MEASURED_TAIL * self.best_QN - FAMILIAR * self.own_QN, -FAMILIAR
        )
        found: np.ndarray = tail.evidence(self.z_QN) + WEIGHT_BESIDE_A_MEASURED_TAIL * words_QN
        return found


@dataclass(frozen=True)
class Tail:
    """Of unrelated z the share TAIL is above `start`, and falls off as exp(-slope * z) from there."""

    start: float
    slope: float

    @classmethod
    def of(cls, tables: Tables, pool: DevSet, encoder: Encoder) -> "Tail":
        """Pieces of documents, asked of all other documents."""
        random = np.random.default_rng(1)
        count = len(pool.documents)
        rows = np.sort(random.choice(count, min(PIECES, count), replace=False)).tolist()
        pieces = [(row, piece) for row in rows if (piece := piece_of(pool.documents[row].text, random))]
        queries_PH = tables.calibration.queries(encoder.embed_queries([piece for _, piece in pieces]))
        z_PN = queries_PH @ tables.rows_NH.T
        is_other_PN = np.arange(count) != np.array([row for row, _ in pieces])[:, None]
        unrelated = z_PN[is_other_PN]
        start = float(np.quantile(unrelated, 1 - TAIL))
        return cls(start, 1 / float((unrelated[unrelated > start] - start).mean()))

    def evidence(self, z: np.ndarray) -> np.ndarray:
        at_start = -np.log(TAIL)
        below = z * np.abs(z) * at_start / self.start**2
        found: np.ndarray = np.where(z > self.start, at_start + self.slope * (z - self.start), below)
        return found


def clusters(vectors_NH: np.ndarray, count: int) -> np.ndarray:
    """k-means: the cluster of each row, without empty ones."""
    centres = vectors_NH[np.random.default_rng(0).choice(len(vectors_NH), count, replace=False)]
    nearest_N = np.zeros(len(vectors_NH), dtype=np.int64)
    for _ in range(ROUNDS):
        nearest_N = (vectors_NH @ centres.T - np.square(centres).sum(axis=1) / 2).argmax(axis=1)
        for one in np.unique(nearest_N):
            centres[one] = vectors_NH[nearest_N == one].mean(axis=0)
    return np.unique(nearest_N, return_inverse=True)[1]


def raw_hybrid(vectors_NH: np.ndarray, queries_QH: np.ndarray, index: LexicalIndex, texts: Sequence[str]) -> np.ndarray:
    found: np.ndarray = BLENDED_DENSE_WEIGHT * queries_QH @ vectors_NH.T
    found += (1 - BLENDED_DENSE_WEIGHT) * _blended_shares(index, texts)
    return found


def _blended_shares(index: LexicalIndex, texts: Sequence[str]) -> np.ndarray:
    count = index.model.scores["num_docs"]
    rows_QN = np.tile(np.arange(count), (len(texts), 1))
    found: np.ndarray = index.scores_of(texts, rows_QN) / index.attainable(texts)[:, None]
    return found


if __name__ == "__main__":
    measure_pools(__doc__, _scores, questions=500)
