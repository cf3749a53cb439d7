"""A folder in BEIR layout as a real MTEB task, with its languages.

There is one MTEB subset for each query language, all on the folder's one pool of documents. `task.counts` holds what
the folder contains and what was omitted.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from mcontriever.disk import sha256_of
from mcontriever.drops import shown
from mcontriever.errors import DataError
from mcontriever.evaluation.language_names import UNKNOWN, direction, is_known, mteb_code, short_code
from mcontriever.evaluation.pools import Pool, asked_in_their_own_language, scattered
from mcontriever.progress import log
from mcontriever.texts.beir_folder import BeirFolder
from mcontriever.texts.documents import Document, Query


class BeirFolderTask(AbsTaskRetrieval):
    """MTEB runs it, scores it and caches its results like any of its own."""

    def __init__(self, metadata: TaskMetadata, dataset: dict[str, Any], directions: dict[str, str]) -> None:
        self.metadata = metadata
        super().__init__()
        self.dataset = dataset
        self.data_loaded = True
        self.directions = directions
        self.counts: dict[str, int] = {}


def beir_task(
    folder: str | Path,
    split: str = "test",
    name: str | None = None,
    languages: Sequence[str] | None = None,
    pool: Pool = "all",
) -> BeirFolderTask:
    """Read and check a folder; every omitted query and every unknown id is counted.

    With `languages` the pool is the documents in these languages; `pool` is one of pools.py. The task's name says so.
    """
    beir = BeirFolder.load(folder)
    relevance = beir.relevance(split)
    documents = _unique(beir.documents(), beir.path_of("corpus.jsonl"))
    name = name or beir.name
    if languages is not None:
        name = "-".join([name, *languages])
        documents, relevance = _in_languages(documents, relevance, languages)
    queries = _unique(beir.queries(), beir.path_of("queries.jsonl"))
    if pool != "all":
        name = f"{name}-{pool}"
        documents, relevance = scattered(documents, relevance)
    if pool == "own":
        relevance = asked_in_their_own_language(documents, queries, relevance)
    relevance, kept, counts = _reconcile(beir, relevance, documents, queries)
    dataset, directions = subsets_of(documents, kept, relevance, split)
    pool_languages = {short_code(document.language) for document in documents.values()}
    if len(dataset) == 1:
        directions = {"default": next(iter(directions.values()))}
        dataset = {"default": next(iter(dataset.values()))}
    task = BeirFolderTask(_metadata(beir, name, split, directions, pool_languages), dataset, directions)
    task.counts = counts
    _report(task, counts, pool_languages, {short_code(query.language) for query in kept})
    return task


def subsets_of(
    documents: dict[str, Document], queries: list[Query], relevance: dict[str, dict[str, int]], split: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """MTEB's data and the direction of each language of the questions, all over the same documents."""
    corpus = Dataset.from_dict(
        {
            "id": [document.id for document in documents.values()],
            "title": [document.title for document in documents.values()],
            "text": [document.text for document in documents.values()],
            "language": [short_code(document.language) for document in documents.values()],
        }
    )
    groups, pool_languages = _by_language(queries), set(corpus["language"][:])
    directions = {subset: direction(subset, pool_languages) for subset in groups}
    return {subset: {split: _split_data(corpus, asked, relevance)} for subset, asked in groups.items()}, directions


def _unique(records: Iterable[Any], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records:
        if record.id in found:
            raise DataError(f"duplicate id {record.id!r}", where=path, fix="give each line its own id")
        found[record.id] = record
    if not found:
        raise DataError("the file is empty", where=path, fix="a benchmark needs documents and queries")
    return found


def _in_languages(
    documents: dict[str, Document], relevance: dict[str, dict[str, int]], languages: Sequence[str]
) -> tuple[dict[str, Document], dict[str, dict[str, int]]]:
    """The documents in these languages, and the judgements without those of other documents."""
    kept = {key: document for key, document in documents.items() if short_code(document.language) in languages}
    others = documents.keys() - kept.keys()
    judged = {
        query: {document: grade for document, grade in grades.items() if document not in others}
        for query, grades in relevance.items()
    }
    return kept, judged


def _reconcile(
    beir: BeirFolder,
    relevance: dict[str, dict[str, int]],
    documents: dict[str, Document],
    queries: dict[str, Query],
) -> tuple[dict[str, dict[str, int]], list[Query], dict[str, int]]:
    """The judgements whose ids exist, the queries with a relevant document, and counts of everything else."""
    unknown_documents = Counter(
        document for judged in relevance.values() for document in judged if document not in documents
    )
    usable = {
        query: {document: grade for document, grade in judged.items() if document in documents}
        for query, judged in relevance.items()
        if query in queries
    }
    kept = [queries[query] for query in queries if any(grade > 0 for grade in usable.get(query, {}).values())]
    counts = {
        "documents": len(documents),
        "documents without text": sum(not document.full_text for document in documents.values()),
        "queries": len(kept),
        "queries without a relevant document": len(queries) - len(kept),
        "judgements of unknown queries": sum(query not in queries for query in relevance),
        "judgements of unknown documents": unknown_documents.total(),
    }
    if not kept:
        unknown = f": {shown(unknown_documents)}" if unknown_documents else ""
        raise DataError(
            f"no query has a relevant document ({len(queries)} queries, {len(relevance)} judged, "
            f"{unknown_documents.total()} judgements of unknown documents{unknown})",
            where=beir.folder,
            fix="check that qrels, queries and corpus belong together",
        )
    return {query.id: usable[query.id] for query in kept}, kept, counts


def _by_language(queries: list[Query]) -> dict[str, list[Query]]:
    groups: dict[str, list[Query]] = {}
    for query in queries:
        groups.setdefault(short_code(query.language), []).append(query)
    return dict(sorted(groups.items()))


def _split_data(corpus: Dataset, queries: list[Query], relevance: dict[str, dict[str, int]]) -> dict[str, Any]:
    columns = {
        "id": [query.id for query in queries],
        "text": [query.text for query in queries],
        "language": [short_code(query.language) for query in queries],
    }
    return {
        "corpus": corpus,
        "queries": Dataset.from_dict(columns),
        "relevant_docs": {query.id: relevance[query.id] for query in queries},
        "top_ranked": None,
    }


def _metadata(
    beir: BeirFolder, name: str, split: str, directions: dict[str, str], pool_languages: set[str]
) -> TaskMetadata:
    codes = {
        subset: list(dict.fromkeys(mteb_code(code) for code in (way.split("->")[0], *sorted(pool_languages))))
        for subset, way in directions.items()
    }
    return TaskMetadata(
        name=name,
        description=f"The BEIR folder {name}.",
        dataset={"path": f"local/{name}", "revision": _revision(beir, split)},
        type="Retrieval",
        category="t2t",
        eval_splits=[split],
        eval_langs=codes if len(codes) > 1 else next(iter(codes.values())),
        main_score="ndcg_at_10",
    )


def _revision(beir: BeirFolder, split: str) -> str:
    """Changed files have a new revision, so MTEB never uses an old result for them."""
    digest = hashlib.sha256()
    for name in ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv"):
        digest.update(sha256_of(beir.path_of(name)).encode())
    return digest.hexdigest()[:40]


def _report(task: BeirFolderTask, counts: dict[str, int], pool: set[str], asked: set[str]) -> None:
    odd = {what: count for what, count in counts.items() if count and what not in ("documents", "queries")}
    silent = sorted(pool - asked) if len(pool) > 1 else []
    if silent:
        odd[f"document languages without queries ({', '.join(silent)})"] = len(silent)
    unknown = sorted(code for code in (pool | asked) - {UNKNOWN} if not is_known(code))
    if unknown:
        odd[f"unknown language codes ({', '.join(unknown)})"] = len(unknown)
    counts |= odd
    noted = "".join(f"; {count:,} {what}" for what, count in odd.items())
    log.info(f"{task.metadata.name}: {counts['queries']:,} queries, {counts['documents']:,} documents{noted}")
