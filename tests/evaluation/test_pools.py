"""pools.py and language_pairs.py: one version of each passage, and scores by the languages of question and answer."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mcontriever.benchmark import Request, run
from mcontriever.errors import ConfigError, DataError
from mcontriever.evaluation.beir_tasks import beir_task
from mcontriever.evaluation.language_pairs import pair_scores, pair_table, worst_pair
from mcontriever.evaluation.results import Benchmark, SubsetScores
from tests.evaluation.conftest import write_beir


def test_each_passage_stays_in_one_language(mixed_folder: Path) -> None:
    task = beir_task(mixed_folder, pool="scattered")
    assert task.metadata.name == "mixed-scattered"
    corpus = task.dataset["ar"]["test"]["corpus"]
    assert sorted(key[-1] for key in corpus["id"]) == ["0", "1", "2", "3"]
    assert set(Counter(corpus["language"]).values()) == {1}
    for subset in task.hf_subsets:
        relevant = task.dataset[subset]["test"]["relevant_docs"]
        assert relevant == {f"{subset}-q{key[-1]}": {key: 1} for key in corpus["id"]}
    again = beir_task(mixed_folder, pool="scattered")
    assert again.dataset["ar"]["test"]["corpus"]["id"][:] == corpus["id"][:]


def test_the_same_pool_asked_in_the_passages_own_language(mixed_folder: Path) -> None:
    task = beir_task(mixed_folder, pool="own")
    corpus = task.dataset[task.hf_subsets[0]]["test"]["corpus"]
    assert corpus["id"][:] == beir_task(mixed_folder, pool="scattered").dataset["ar"]["test"]["corpus"]["id"][:]
    asked = {query: found for subset in task.hf_subsets for query, found in _relevant(task, subset).items()}
    assert asked == {key.replace("-d", "-q"): {key: 1} for key in corpus["id"]}


def _relevant(task, subset):
    return task.dataset[subset]["test"]["relevant_docs"]


def test_what_is_not_parallel_is_refused(tmp_path: Path) -> None:
    documents = [{"_id": f"d{n}", "text": f"text {n}", "language": "en"} for n in range(2)]
    queries = [{"_id": "q", "text": "text", "language": "en"}]
    alone = write_beir(tmp_path / "alone", documents, queries, {"q": {"d0": 1}})
    with pytest.raises(DataError, match="nothing to scatter"):
        beir_task(alone, pool="scattered")
    twice = write_beir(tmp_path / "twice", documents, queries, {"q": {"d0": 1, "d1": 1}})
    with pytest.raises(DataError, match="'d0' and 'd1' are both in en and answer the same questions"):
        beir_task(twice, pool="scattered")
    with pytest.raises(ConfigError, match="MIRACLRetrieval keeps each language's documents apart"):
        run(Request(models=["bm25:words"], tasks=["MIRACLRetrieval"], scatter=True, output=tmp_path / "out"))


def test_a_scattered_benchmark_shows_every_pair_of_languages(mixed_folder: Path, tmp_path: Path) -> None:
    run(Request(models=["bm25:words"], tasks=[str(mixed_folder)], scatter=True, output=tmp_path / "out"))
    report = (tmp_path / "out" / "scores.md").read_text()
    assert "## nDCG@10 by the languages of question and answer, percent" in report
    assert "mixed-scattered, bm25:words: the worst pair is " in report
    assert (tmp_path / "out" / "pairs-mixed-scattered-bm25_words.png").stat().st_size > 1000
    scores = pair_scores(Benchmark.load(tmp_path / "out").subsets("bm25:words"), "ndcg_at_10")["mixed-scattered"]
    assert len(scores) == 5 * 4
    means = {asked: np.mean([value for (one, _), value in scores.items() if one == asked]) for asked, _ in scores}
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    found = {row["language"].split("->")[0]: row["value"] for row in rows if row["metric"] == "ndcg_at_10"}
    assert means == pytest.approx({asked: found[asked] for asked in means}, abs=1e-5)


def test_pairs_are_means_and_the_worst_is_named() -> None:
    def subset(asked: str, answers: list[str], values: list[float]) -> SubsetScores:
        ids = [str(number) for number in range(len(values))]
        return SubsetScores("m", "1", "t", "1", asked, f"{asked}->mixed", ids, {"x": values}, None, answers)

    subsets = [subset("ar", ["en", "en", "ar"], [0.2, 0.4, 1.0]), subset("en", ["en"], [0.9])]
    scores = pair_scores(subsets, "x")["t"]
    assert scores == pytest.approx({("ar", "en"): 0.3, ("ar", "ar"): 1.0, ("en", "en"): 0.9})
    assert worst_pair(scores) == "the worst pair is Arabic to English, 30.0."
    assert pair_table(scores).splitlines()[2:] == ["| Arabic | 100.0 | 30.0 |", "| English |  | 90.0 |"]
