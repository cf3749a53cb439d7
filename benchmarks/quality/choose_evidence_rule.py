"""Choose a model's evidence rule, what its scores and shared words are worth in hybrid search, with questions.

    python benchmarks/quality/choose_evidence_rule.py --model MODEL [ANOTHER] FOLDER... [--write] [--output FILE.json]

FOLDER is in BEIR layout; give several of different kinds (one language, questions in another language, several
languages in one pool). A rule is worth its mean nDCG@10 over the folders, less the mean of what it is below the best of
vectors, BM25 and the raw hybrid, on even questions. The rule of which it and its neighbours in the grid are worth most
is chosen, so that it stands among others as good; it is none at the edge of the grid. What odd questions say of it is
printed beside the default rule. Of several models the mean counts: one rule for all. `--write` puts it into the model's
folder; a store that is embedded with the model from then on is searched by this rule.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from mixed_formulas import Tables, raw_hybrid
from pools import evenly_drawn, mean_ndcg, relevant_ids

from mcontriever.encoder import Encoder
from mcontriever.encoder.saved_model import write_evidence_rule
from mcontriever.evaluation.dev_sets import DevSet
from mcontriever.evidence_rule import DEFAULT_RULE, EvidenceRule
from mcontriever.hub import model_folder
from mcontriever.progress import setup_logging
from mcontriever.retrieval.lexical_index import LexicalIndex
from mcontriever.texts.language_detection import with_detected_languages

SLOPES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, None)
WORDS_TO_A_SLOPE = (8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 32.0, 36.0, 40.0)
SLOPE_OF_NONE = 4.0  # to find the words where there is no slope
BESTS = (0.2, 0.3, 0.4, 0.5)


class Half:
    """The even or odd questions of a folder: nDCG@10 of any rule, and of the best of the simple ways."""

    def __init__(self, encoder: Encoder, pool: DevSet, half: str, questions: int) -> None:
        queries = evenly_drawn(pool.queries, half, questions)
        texts, documents = [query.text for query in queries], with_detected_languages(pool.documents)
        vectors_NH = encoder.embed_documents([one.text for one in documents], [one.title for one in documents])
        queries_QH = encoder.embed_queries(texts)
        codes_N = np.unique([one.text_language or one.language for one in documents], return_inverse=True)[1]
        index = LexicalIndex.build([[document.full_text for document in documents]])
        self.tables = Tables.of(vectors_NH, queries_QH, codes_N, index, texts)
        self.ids_N = np.array([document.id for document in documents])
        self.relevant = [relevant_ids(pool, query) for query in queries]
        simple = self.tables.z_QN, self.tables.shares_QN, raw_hybrid(vectors_NH, queries_QH, index, texts)
        self.best_simple = max(self._ndcg(scores_QN) for scores_QN in simple)

    def of_rule(self, rule: EvidenceRule) -> float:
        return self._ndcg(self.tables.hybrid(rule))

    def _ndcg(self, scores_QN: np.ndarray) -> float:
        best_QK = np.argsort(-scores_QN, axis=1, kind="stable")[:, :10]
        return mean_ndcg(self.ids_N[best_QK].tolist(), self.relevant)


def choose(halves: Sequence[Half]) -> EvidenceRule:
    best_F = np.array([half.best_simple for half in halves])
    rules = [[[_rule(slope, words, best) for best in BESTS] for words in WORDS_TO_A_SLOPE] for slope in SLOPES]
    found_SWBF = np.array([[[[half.of_rule(rule) for half in halves] for rule in row] for row in one] for one in rules])
    worth_SWB = (found_SWBF - np.maximum(best_F - found_SWBF, 0)).mean(axis=-1)
    middle_SWB = with_neighbours(worth_SWB)
    slope, words, best = np.unravel_index(middle_SWB.argmax(), middle_SWB.shape)
    return rules[slope + 1][words + 1][best + 1]


def with_neighbours(worth: np.ndarray) -> np.ndarray:
    """The mean over each cell and those beside it; not of cells at the edge, whose neighbours are unknown."""
    found: np.ndarray = np.lib.stride_tricks.sliding_window_view(worth, (3,) * worth.ndim).mean(axis=(-3, -2, -1))
    return found


def _rule(slope: float | None, words: float, best: float) -> EvidenceRule:
    return EvidenceRule(words=words * (slope or SLOPE_OF_NONE), best=best, slope=slope)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", nargs="+", default=["nano"])
    parser.add_argument("--questions", type=int, default=500, help="of each half, at most; evenly drawn")
    parser.add_argument("--write", action="store_true", help="into the models' folders")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    setup_logging()
    pools = {folder.name: DevSet.load(folder) for folder in given.folders}
    encoders = {name: Encoder.load(name, precision="auto") for name in given.model}
    places = [(model, pool) for model in encoders for pool in pools]

    def halves(half: str) -> list[Half]:
        return [Half(encoders[model], pools[pool], half, given.questions) for model, pool in places]

    rule = choose(halves("even"))
    found = {
        f"{model} {pool}": {name: one.of_rule(rule) for name, rule in (("default", DEFAULT_RULE), ("chosen", rule))}
        | {"best simple way": one.best_simple}
        for (model, pool), one in zip(places, halves("odd"), strict=True)
    }
    text = json.dumps({"rule": asdict(rule), "odd questions": found}, indent=1)
    print(text)
    if given.output:
        given.output.write_text(text + "\n")
    if given.write:
        for name in encoders:
            write_evidence_rule(model_folder(name), rule)


if __name__ == "__main__":
    main()
