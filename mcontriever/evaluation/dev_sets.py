"""Small retrieval sets scored while a model trains: nDCG@10, MRR@100 and recall@100 by pytrec_eval, as in MTEB.

A set is a folder in BEIR's layout. All ranks encode; the main rank searches exhaustively and scores. If the queries
are in several languages, each language is scored too, so a language that the model forgets is seen.
Shapes: Q queries, D documents, H hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever import ranks
from mcontriever.errors import DataError
from mcontriever.texts.beir_folder import BeirFolder
from mcontriever.texts.documents import Document, Query

DEPTH = 100
METRICS = ("ndcg@10", "mrr@100", "recall@100")
QUERIES_PER_BLOCK = 256


@dataclass(frozen=True)
class DevSet:
    name: str
    documents: Sequence[Document]
    queries: Sequence[Query]
    relevance: dict[str, dict[str, int]]

    @classmethod
    def load(cls, folder: str | Path, split: str = "test") -> "DevSet":
        """Only judged queries count, and only judgements of documents in the corpus."""
        beir = BeirFolder.load(folder)
        documents = list(beir.documents())
        known = {document.id for document in documents}
        judged = beir.relevance(split)
        relevance = {
            query: {document: grade for document, grade in grades.items() if document in known}
            for query, grades in judged.items()
        }
        queries = [
            query for query in beir.queries() if any(grade > 0 for grade in relevance.get(query.id, {}).values())
        ]
        if not queries:
            raise DataError(
                f"none of the {len(judged)} judged queries has a relevant document in the corpus",
                where=folder,
                fix="check that corpus, queries and qrels belong together",
            )
        return cls(beir.name, documents, queries, {query.id: relevance[query.id] for query in queries})


def score_dev_sets(encoder: Any, sets: Sequence[DevSet]) -> dict[str, dict[str, float]]:
    """{set: {metric: value}}, also "SET (LANGUAGE)" and the "mean" of sets. All ranks call it and get the scores."""
    scores: dict[str, dict[str, float]] = {}
    for dev_set in sets:
        queries_QH = _embed_shared(encoder.embed_queries, [query.text for query in dev_set.queries])
        texts, titles = [d.text for d in dev_set.documents], [d.title for d in dev_set.documents]
        documents_DH = _embed_shared(encoder.embed_documents, texts, titles)
        if ranks.is_main():
            scores |= score_by_language(dev_set, queries_QH, documents_DH)
    scores = ranks.broadcast_object(scores)
    whole = [scores[dev_set.name] for dev_set in sets]
    return {**scores, "mean": {metric: float(np.mean([values[metric] for values in whole])) for metric in METRICS}}


def score_by_language(dev_set: DevSet, queries_QH: np.ndarray, documents_DH: np.ndarray) -> dict[str, dict[str, float]]:
    """The set, and each language of its queries if there are several."""
    results = _results(dev_set, queries_QH, documents_DH)
    language_of = {query.id: query.language for query in dev_set.queries}
    languages = sorted(set(language_of.values()))
    scores = {dev_set.name: _means(list(results.values()))}
    for language in languages if len(languages) > 1 else []:
        own = [result for query, result in results.items() if language_of[query] == language]
        scores[f"{dev_set.name} ({language or 'unknown'})"] = _means(own)
    return scores


def score(dev_set: DevSet, queries_QH: np.ndarray, documents_DH: np.ndarray) -> dict[str, float]:
    return _means(list(_results(dev_set, queries_QH, documents_DH).values()))


def _results(dev_set: DevSet, queries_QH: np.ndarray, documents_DH: np.ndarray) -> dict[str, dict[str, float]]:
    import pytrec_eval

    # the run ends at DEPTH, so its reciprocal rank is MRR@100
    evaluator = pytrec_eval.RelevanceEvaluator(dev_set.relevance, {"ndcg_cut.10", "recip_rank", f"recall.{DEPTH}"})
    return evaluator.evaluate(_run(dev_set, queries_QH, documents_DH))


def _means(results: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict(zip(METRICS, ("ndcg_cut_10", "recip_rank", f"recall_{DEPTH}"), strict=True))
    return {ours: float(np.mean([result[theirs] for result in results])) for ours, theirs in names.items()}


def _run(dev_set: DevSet, queries_QH: np.ndarray, documents_DH: np.ndarray) -> dict[str, dict[str, float]]:
    run = {}
    documents = torch.from_numpy(documents_DH)
    depth = min(DEPTH, len(dev_set.documents))
    for start in range(0, len(dev_set.queries), QUERIES_PER_BLOCK):
        scores_QD = torch.from_numpy(queries_QH[start : start + QUERIES_PER_BLOCK]) @ documents.T
        best, places = scores_QD.topk(depth, dim=1)
        for row, (values, columns) in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
            hits = {dev_set.documents[column].id: value for column, value in zip(columns, values, strict=True)}
            run[dev_set.queries[start + row].id] = hits
    return run


def _embed_shared(embed: Any, *columns: list[str]) -> np.ndarray:
    """Each rank embeds every world_size-th text. Every rank gets all rows, in order."""
    rank, world_size = ranks.rank(), ranks.world_size()
    own = embed(*(column[rank::world_size] for column in columns))
    if world_size == 1:
        return own
    parts: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(parts, own)
    whole = np.empty((len(columns[0]), own.shape[1]), dtype=own.dtype)
    for number, part in enumerate(parts):
        whole[number::world_size] = part
    return whole
