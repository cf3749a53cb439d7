"""What MTEB, through our tasks, makes of random runs with ties: against ir-measures and against plain numpy."""

from pathlib import Path
from typing import Any

import ir_measures
import mteb
import numpy as np
import pytest

from mcontriever.evaluation.beir_tasks import beir_task
from mcontriever.evaluation.mteb_encoder import model_meta
from mcontriever.evaluation.mteb_run import SAME_LANGUAGE, rows_of, run_task
from mcontriever.evaluation.results import Row
from tests.evaluation.conftest import write_beir

METRICS = ["ndcg_at_10", "recall_at_100", "map_at_1000", "mrr_at_10", "mrr_at_1000", "precision_at_5"]
MEASURES = {
    "ndcg_at_10": ir_measures.nDCG @ 10,
    "recall_at_100": ir_measures.R @ 100,
    "map_at_1000": ir_measures.AP @ 1000,
    "mrr_at_1000": ir_measures.RR,  # with a cut, ir-measures orders ties in another way than trec_eval
    "precision_at_5": ir_measures.P @ 5,
}


class FixedRun:
    """A search that answers from a table."""

    def __init__(self, run: dict[str, dict[str, float]]) -> None:
        self.run = run
        self.searched = 0
        self.mteb_model_meta = model_meta("fixed", "1")

    def index(self, corpus: Any, **_: Any) -> None:
        pass

    def search(self, queries: Any, **_: Any) -> dict[str, dict[str, float]]:
        self.searched += 1
        return {query: self.run[query] for query in queries["id"]}


def random_case(folder: Path, seed: int) -> tuple[Path, dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Graded judgements, and runs whose scores are whole numbers from 0 to 5: ties everywhere, also at the cuts."""
    random = np.random.default_rng(seed)
    documents = [{"_id": f"d{i}", "text": f"text {i}", "language": ("en", "sw")[i % 2]} for i in range(150)]
    queries = [{"_id": f"q{i}", "text": f"query {i}", "language": ("en", "sw")[i % 2]} for i in range(20)]
    relevance = {
        query["_id"]: {f"d{i}": int(random.integers(0, 3)) for i in random.choice(150, size=15, replace=False)}
        | {"d0": 1}
        for query in queries
    }
    run = {
        query["_id"]: {f"d{i}": float(random.integers(0, 6)) for i in random.choice(150, size=120, replace=False)}
        for query in queries
    }
    return write_beir(folder, documents, queries, relevance), relevance, run


def naive_ranking(hits: dict[str, float]) -> list[str]:
    return sorted(hits, key=lambda document: (hits[document], document), reverse=True)


def naive_ndcg(hits: dict[str, float], grades: dict[str, int], k: int) -> float:
    gains = [grades.get(document, 0) for document in naive_ranking(hits)[:k]]
    ideal = sorted(grades.values(), reverse=True)[:k]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return float(np.dot(gains, discounts[: len(gains)]) / np.dot(ideal, discounts[: len(ideal)]))


def naive_reciprocal_rank(hits: dict[str, float], grades: dict[str, int], k: int) -> float:
    for rank, document in enumerate(naive_ranking(hits)[:k], start=1):
        if grades.get(document, 0) > 0:
            return 1 / rank
    return 0.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_equal_ir_measures_and_numpy(tmp_path: Path, seed: int) -> None:
    folder, relevance, run = random_case(tmp_path / "set", seed)
    task = beir_task(folder)
    subsets = run_task(FixedRun(run), "fixed", task, METRICS, tmp_path / "out")
    values = {metric: {} for metric in METRICS}
    for subset in subsets:
        for metric in METRICS:
            values[metric] |= subset.by_query(metric)
    theirs = {str(m): {} for m in MEASURES.values()}
    for found in ir_measures.iter_calc(list(MEASURES.values()), relevance, run):
        theirs[str(found.measure)][found.query_id] = found.value
    for metric, measure in MEASURES.items():
        assert values[metric] == pytest.approx(theirs[str(measure)]), metric
    assert values["ndcg_at_10"] == pytest.approx({query: naive_ndcg(run[query], relevance[query], 10) for query in run})
    for k in (10, 1000):
        naive = {query: naive_reciprocal_rank(run[query], relevance[query], k) for query in run}
        assert values[f"mrr_at_{k}"] == pytest.approx(naive)


def test_rows_means_and_mtebs_own_files_agree(tmp_path: Path) -> None:
    folder, _, run = random_case(tmp_path / "set", 4)
    task = beir_task(folder)
    subsets = run_task(FixedRun(run), "fixed", task, METRICS, tmp_path / "out")
    rows = rows_of(task, subsets, METRICS)
    en, sw = rows[Row("set", "en->mixed", "ndcg_at_10")], rows[Row("set", "sw->mixed", "ndcg_at_10")]
    assert rows[Row("set", "all->mixed", "ndcg_at_10")] == pytest.approx((en + sw) / 2)
    loaded = mteb.ResultCache(tmp_path / "out" / "mteb").load_results(require_model_meta=False)
    result = loaded.model_results[0].task_results[0]
    assert result.task_name == "set"
    by_subset = {entry["hf_subset"]: entry for entry in result.scores["test"]}
    assert by_subset["en"]["ndcg_at_10"] == pytest.approx(en, abs=1e-5)
    for metric in METRICS:
        assert by_subset["sw"][metric] == pytest.approx(rows[Row("set", "sw->mixed", metric)], abs=1e-5), metric
    even = [query for query in run if int(query[1:]) % 2 == 0]
    top = [document for query in even for document in naive_ranking(run[query])[:10]]
    assert rows[Row("set", "en->mixed", SAME_LANGUAGE)] == np.mean([int(document[1:]) % 2 == 0 for document in top])


def test_a_finished_task_is_not_run_again_unless_something_changed(tmp_path: Path) -> None:
    folder, _, run = random_case(tmp_path / "set", 5)
    first, second, third = FixedRun(run), FixedRun(run), FixedRun(run)
    once = run_task(first, "fixed", beir_task(folder), METRICS, tmp_path / "out")
    again = run_task(second, "fixed", beir_task(folder), METRICS, tmp_path / "out")
    assert (first.searched, second.searched) == (2, 0)
    assert once == again
    (tmp_path / "out" / "queries" / "fixed" / "set" / "en.json").unlink()
    run_task(third, "fixed", beir_task(folder), METRICS, tmp_path / "out")
    assert third.searched == 2
    with open(folder / "qrels" / "test.tsv", "a") as file:
        file.write("q0\td149\t2\n")
    changed = FixedRun(run)
    run_task(changed, "fixed", beir_task(folder), METRICS, tmp_path / "out")
    assert changed.searched == 2
