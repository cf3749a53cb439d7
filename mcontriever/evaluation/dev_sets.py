"""Small retrieval sets scored while a model trains: nDCG@10 and recall@100 by pytrec_eval, as MTEB computes them.

A set is a folder in BEIR's layout. The ranks share the encoding; the main rank searches exhaustively and scores.
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
from mcontriever.records import BeirFolder, Document, Query

DEPTH = 100
METRICS = ("ndcg@10", "recall@100")
QUERIES_PER_BLOCK = 256


@dataclass(frozen=True)
class DevSet:
    name: str
    documents: Sequence[Document]
    queries: Sequence[Query]
    relevance: dict[str, dict[str, int]]

    @classmethod
    def load(cls, folder: str | Path, split: str = "test") -> "DevSet":
        """Only queries that are judged, and only judgements of documents that are there, count."""
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
    """{set: {metric: value}}, and the mean over sets under "mean". Collective; every rank gets the scores."""
    scores: dict[str, dict[str, float]] = {}
    for dev_set in sets:
        queries_QH = _embed_shared(encoder.embed_queries, [query.text for query in dev_set.queries])
        texts, titles = [d.text for d in dev_set.documents], [d.title for d in dev_set.documents]
        documents_DH = _embed_shared(encoder.embed_documents, texts, titles)
        scores[dev_set.name] = score(dev_set, queries_QH, documents_DH) if ranks.is_main() else {}
    scores = ranks.broadcast_object(scores)
    means = {metric: float(np.mean([values[metric] for values in scores.values()])) for metric in METRICS}
    return {**scores, "mean": means} if len(sets) > 1 else {**scores, "mean": dict(means)}


def score(dev_set: DevSet, queries_QH: np.ndarray, documents_DH: np.ndarray) -> dict[str, float]:
    import pytrec_eval

    evaluator = pytrec_eval.RelevanceEvaluator(dev_set.relevance, {"ndcg_cut.10", f"recall.{DEPTH}"})
    results = evaluator.evaluate(_run(dev_set, queries_QH, documents_DH))
    names = {"ndcg@10": "ndcg_cut_10", "recall@100": f"recall_{DEPTH}"}
    return {ours: float(np.mean([result[theirs] for result in results.values()])) for ours, theirs in names.items()}


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
    """Each rank embeds every world_size-th text; all get the rows of all, in order."""
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
