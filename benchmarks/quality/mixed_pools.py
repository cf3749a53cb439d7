"""Ways of searching pools of one language or several, and whether the confidence of a hit is true.

    python benchmarks/quality/mixed_pools.py --model nano --half odd --questions 300 FOLDER... --output FILE.json

For each folder in BEIR layout: nDCG@10 of vectors, BM25, and hybrid search with raw and with calibrated scores; how
large the share of a question's language is in the first ten hits and among the relevant documents; and every question
asked a second time without its relevant documents: the area under the curve of the best hit's confidence, and how many
of the best hits of a confidence are right, by the languages of question and answer. Settings are chosen with
`--half even` and reported with `--half odd`.
"""

import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pools import mean_ndcg, measure_pools, relevant_ids

from mcontriever.encoder import Encoder
from mcontriever.evaluation.dev_sets import DevSet
from mcontriever.retrieval.calibrated_search import CalibratedSearch
from mcontriever.retrieval.combined_search import RankedDocument
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.lexical_evidence import LexicalEvidence
from mcontriever.retrieval.lexical_index import open_lexical_index
from mcontriever.retrieval.search_options import SearchOptions
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.unanswered import open_unanswered
from mcontriever.texts.documents import Query

WAYS = {
    "vectors": SearchOptions(mode="dense", merge="raw"),
    "BM25": SearchOptions(mode="bm25"),
    "raw hybrid": SearchOptions(mode="hybrid", merge="raw"),
    "calibrated vectors": SearchOptions(mode="dense", merge="calibrated"),
    "calibrated hybrid": SearchOptions(mode="hybrid", merge="calibrated"),
}
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _facts(encoder: Encoder, pool: DevSet, queries: Sequence[Query]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as store:
        return _facts_of_index(Index.build(encoder, pool.documents, Path(store) / "store"), pool, queries)


def _facts_of_index(index: Index, pool: DevSet, queries: Sequence[Query]) -> dict[str, Any]:
    language_of = {document.id: document.language for document in pool.documents}
    relevant = {query.id: relevant_ids(pool, query) for query in queries}
    ranked = {
        way: [[hit.id for hit in hits] for hits in index.search_many(queries, options=options, texts=False)]
        for way, options in WAYS.items()
    }
    scores = {way: mean_ndcg(found, [relevant[query.id] for query in queries]) for way, found in ranked.items()}
    shares = _own_shares(queries, ranked["calibrated hybrid"], relevant, language_of)
    return {"ndcg_at_10": scores, "own_language": shares, "confidence": _confidence(index, queries, relevant)}


def _own_shares(
    queries: Sequence[Query], ranked: Sequence[list[str]], relevant: dict[str, set[str]], language_of: dict[str, str]
) -> dict[str, list[float]]:
    """Question language -> percent of the first ten hits, and of the relevant documents, that are in it."""
    counts: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for query, ids in zip(queries, ranked, strict=True):
        counts[query.language] += [(True, language_of[key] == query.language) for key in ids]
        counts[query.language] += [(False, language_of[key] == query.language) for key in relevant[query.id]]
    return {
        language: [
            round(100 * float(np.mean([own for is_hit, own in pairs if is_hit == wanted])), 1)
            for wanted in (True, False)
        ]
        for language, pairs in sorted(counts.items())
    }


def _confidence(index: Index, queries: Sequence[Query], relevant: dict[str, set[str]]) -> dict[str, Any]:
    """Of best hits, with the relevant documents there and without them."""
    search, store = _search(index), index.store
    shown = store.rows_shown(np.arange(len(store)), ["id", "language"])
    ids_N = np.array([row["id"] for row in shown])
    pairs: dict[str, list[tuple[float, bool, bool]]] = defaultdict(list)  # confidence, was there an answer, is it right
    for query in queries:
        answers_N = np.isin(ids_N, list(relevant[query.id]))
        languages = {shown[row]["language"] for row in np.flatnonzero(answers_N)}
        pair = f"{query.language}-{languages.pop() if len(languages) == 1 else 'several'}"
        for is_there, allowed_N in ((True, None), (False, ~answers_N)):
            best = _best(search, query, allowed_N)
            if best is not None:
                seen = (best.confidence or 0.0, is_there, is_there and bool(answers_N[best.row]))
                pairs["all"].append(seen)
                pairs[pair].append(seen)
    return {pair: _measured(seen) for pair, seen in sorted(pairs.items())}


def _search(index: Index) -> CalibratedSearch:
    """As the index searches, but of rows that can be chosen for each question."""
    codes_N, names = index.store.text_languages
    search = CalibratedSearch(
        store=index.store,
        dense=DenseSearch.calibrated(index.store, index.encoder, 200 << 20),
        lexical=[LexicalEvidence.of(open_lexical_index(index.store, "words"), codes_N, len(names))],
    )
    kept = open_unanswered(index.store, "words", search.best_scores)
    return CalibratedSearch(store=search.store, dense=search.dense, lexical=search.lexical, unanswered=kept)


def _best(search: CalibratedSearch, query: Query, allowed_N: np.ndarray | None) -> RankedDocument | None:
    found: Iterator[RankedDocument] = iter(next(search.rank([query], 1, allowed_N)))
    return next(found, None)


def _measured(seen: Sequence[tuple[float, bool, bool]]) -> dict[str, Any]:
    confidence, is_there, is_right = (np.array(column) for column in zip(*seen, strict=True))
    bins = []
    for low, high in itertools.pairwise(BINS):
        inside = (confidence >= low) & ((confidence < high) | (high == 1))
        if inside.any():
            said, true = confidence[inside].mean(), is_right[inside].mean()
            bins.append({"hits": int(inside.sum()), "said": round(float(said), 3), "true": round(float(true), 3)})
    return {"auc": _area(confidence[is_there], confidence[~is_there]), "reliability": bins}


def _area(with_answer: np.ndarray, without: np.ndarray) -> float | None:
    """How often a question with an answer has the surer hit; equal ones count half."""
    if not len(with_answer) or not len(without):
        return None
    above = (with_answer[:, None] > without).mean() + 0.5 * (with_answer[:, None] == without).mean()
    return round(float(above), 3)


if __name__ == "__main__":
    measure_pools(__doc__, _facts, questions=300)
