"""One model on one MTEB task: MTEB's metrics and cache, plus the scores of single queries, which MTEB does not keep.

MTEB calls `task.task_specific_scores` with every query's scores and hits when a subset is done. Our recorder replaces
it and writes them to a file before MTEB drops them.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mteb
from datasets.exceptions import DatasetsError
from mteb.abstasks.aggregated_task import AbsTaskAggregate

from mcontriever.errors import DataError, RunError, StoreError
from mcontriever.evaluation.language_bias import LanguageCounts, best_hits, count_languages, merged
from mcontriever.evaluation.language_names import ALL, MIXED
from mcontriever.evaluation.mteb_search import languages_of
from mcontriever.evaluation.results import Row, SubsetScores, is_stored, subset_path

SAME_LANGUAGE = "same_language_at_10"
SAME_LANGUAGE_RELEVANT = "same_language_relevant"
_TREC_NAMES = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}


def run_task(search: Any, label: str, task: Any, metrics: list[str], folder: Path) -> list[SubsetScores]:
    """Evaluate, or read what an earlier run of the same model, data and versions left in the folder.

    `task.directions` holds the name of each subset's rows.
    """
    cache = mteb.ResultCache(folder / "mteb")
    leaves = leaves_of(task)
    for leaf in leaves:
        leaf.task_specific_scores = _recorder(search, label, leaf, metrics, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the libraries; errors still come through
        whole = all(_recorded(cache, search, label, leaf, metrics, folder) for leaf in leaves)
        try:
            mteb.evaluate(
                search,
                task,
                cache=cache,
                overwrite_strategy="only-missing" if whole else "always",
                co2_tracker=False,
                show_progress_bar=False,
                encode_kwargs={"batch_size": 32, "show_progress_bar": False},
            )
        except (OSError, DatasetsError) as error:
            fix = "check the network or the --offline folder, then run the same command again: finished tasks are kept"
            what = f"{task.metadata.name} cannot be loaded: {str(error).splitlines()[0]}"
            raise DataError(what, where=task.metadata.dataset["path"], fix=fix) from error
    return [
        SubsetScores.load(subset_path(folder, label, leaf.metadata.name, subset))
        for leaf in leaves
        for subset in leaf.hf_subsets
    ]


def leaves_of(task: Any) -> list[Any]:
    """The tasks that hold data; CQADupstack, for example, is twelve."""
    return list(task.metadata.tasks) if isinstance(task, AbsTaskAggregate) else [task]


def rows_of(task: Any, subsets: list[SubsetScores], metrics: list[str]) -> dict[Row, float]:
    """The numbers of one task. An aggregate of tasks (CQADupstack) is one row, the mean of its parts."""
    name = task.metadata.name
    if isinstance(task, AbsTaskAggregate):
        return {Row(name, subsets[0].language, m): sum(s.mean(m) for s in subsets) / len(subsets) for m in metrics}
    return subset_rows(name, subsets, metrics)


def subset_rows(name: str, subsets: list[SubsetScores], metrics: list[str]) -> dict[Row, float]:
    """A row per language, and their mean where there are several."""
    rows: dict[Row, float] = {}
    for subset in subsets:
        for metric in metrics:
            rows[Row(name, subset.language, metric)] = subset.mean(metric)
        counts = _counts(subset)
        if counts is not None:
            own = counts.same_language_share(subset.language.split("->")[0])
            rows[Row(name, subset.language, SAME_LANGUAGE)] = own[0]
            rows[Row(name, subset.language, SAME_LANGUAGE_RELEVANT)] = own[1]
    if len(subsets) > 1:
        language = f"{ALL}->{MIXED}" if subsets[0].languages else ALL
        for metric in {row.metric: None for row in rows}:
            values = [value for row, value in rows.items() if row.metric == metric]
            rows[Row(name, language, metric)] = sum(values) / len(values)
    return rows


def language_counts(subsets: list[SubsetScores]) -> LanguageCounts | None:
    """The task's language table, if its pool holds several languages."""
    counts = [found for found in map(_counts, subsets) if found is not None]
    return merged(counts) if counts else None


def _recorder(search: Any, label: str, task: Any, metrics: list[str], folder: Path) -> Callable[..., dict[str, float]]:
    # Some tasks add scores (PeerQA). The class's method, because the instance's may be a recorder already.
    add_own_scores = type(task).task_specific_scores

    def record(
        scores: dict[str, dict[str, float]],
        qrels: Mapping[str, Mapping[str, int]],
        results: Mapping[str, Mapping[str, float]],
        *,
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        missing = [query for query in qrels if query not in scores]
        if missing:
            raise RunError(f"{len(missing)} queries of {task.metadata.name} got no answer", where=label)
        counts = _count(task, hf_subset, hf_split, qrels, results)
        SubsetScores(
            model=label,
            revision=search.mteb_model_meta.revision,
            task=task.metadata.name,
            data_revision=task.metadata.revision,
            subset=hf_subset,
            language=task.directions[hf_subset],
            queries=list(scores),
            values={metric: query_values(metric, scores, qrels, results) for metric in metrics},
            languages=counts.to_dict() if counts else None,
            answer_languages=_answer_languages(task, hf_subset, hf_split, qrels, list(scores)) if counts else None,
        ).save(folder)
        return add_own_scores(task, scores, qrels, results, hf_split=hf_split, hf_subset=hf_subset)

    return record


def query_values(
    metric: str,
    scores: Mapping[str, Mapping[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    results: Mapping[str, Mapping[str, float]],
) -> list[float]:
    """One metric for each query, by MTEB's name ("ndcg_at_10"), from pytrec_eval's numbers."""
    kind, _, k = metric.rpartition("_at_")
    if kind == "mrr":
        return [_reciprocal_rank(results[query], qrels[query], int(k)) for query in scores]
    return [scores[query][f"{_TREC_NAMES[kind]}_{k}"] for query in scores]


def _reciprocal_rank(hits: Mapping[str, float], relevance: Mapping[str, int], k: int) -> float:
    ranks = (rank for rank, document in enumerate(best_hits(hits, k), start=1) if relevance.get(document, 0) > 0)
    return 1.0 / next(ranks, float("inf"))


def _count(
    task: Any,
    subset: str,
    split: str,
    qrels: Mapping[str, Mapping[str, int]],
    results: Mapping[str, Mapping[str, float]],
) -> LanguageCounts | None:
    data = task.dataset[subset][split]
    languages = dict(zip(data["corpus"]["id"][:], languages_of(data["corpus"]), strict=True))
    if len(set(languages.values())) < 2:
        return None
    asked = dict(zip(data["queries"]["id"][:], languages_of(data["queries"]), strict=True))
    return count_languages(results, qrels, asked, languages)


def _answer_languages(
    task: Any, subset: str, split: str, qrels: Mapping[str, Mapping[str, int]], queries: list[str]
) -> list[str] | None:
    corpus = task.dataset[subset][split]["corpus"]
    language_of = dict(zip(corpus["id"][:], languages_of(corpus), strict=True))
    found = [{language_of[document] for document, grade in qrels[query].items() if grade > 0} for query in queries]
    return [language for one in found for language in one] if all(len(one) == 1 for one in found) else None


def _counts(subset: SubsetScores) -> LanguageCounts | None:
    return LanguageCounts(**subset.languages) if subset.languages else None


def _recorded(cache: Any, search: Any, label: str, task: Any, metrics: list[str], folder: Path) -> bool:
    """Whether every subset in MTEB's cache has the scores of its queries beside it, for this model and these data."""
    name, model = task.metadata.name, search.mteb_model_meta
    try:
        result = cache.load_task_result(name, model)
    except Exception as error:  # MTEB checks little of what it reads, so damage shows as any exception
        fix = "remove this folder, then run the same command again: the tasks are scored again"
        what = f"MTEB's result of {name} cannot be read: {' '.join(str(error).split())[:200]}"
        raise StoreError(what, where=folder / "mteb", fix=fix) from error
    return all(
        is_stored(subset_path(folder, label, name, subset), model.revision, task.metadata.revision, metrics)
        for subset in (result.hf_subsets if result is not None else [])
    )
