"""MTEB's own tasks without a network, from tiny copies in the hub's layout; names and suites that cannot be right."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mteb
import pytest

from mcontriever.errors import ConfigError, DataError, HubError
from mcontriever.evaluation.cross_xquad import CrossLingualXQuAD
from mcontriever.evaluation.mteb_encoder import model_meta
from mcontriever.evaluation.mteb_run import leaves_of, rows_of, run_task
from mcontriever.evaluation.official_tasks import find_snapshot, official_task, repositories_of, use_offline
from mcontriever.evaluation.results import Row, SubsetScores
from mcontriever.evaluation.suites import SuiteTask, load_suite, passage_file, question_set, suite_names, suite_of_tasks
from tests.evaluation.conftest import QUESTIONS, SENTENCES, cqadupstack_parts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets.*", "ignore::UserWarning:mteb.*")


@pytest.fixture(autouse=True)
def _own_arrow_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("arrow"))


class ByTopic:
    """Knows every text of the tests, finds the passage of the same topic first: a perfect search across languages."""

    def __init__(self) -> None:
        self.mteb_model_meta = model_meta("by-topic", "1")
        self.asked: list[tuple[str, str]] = []

    def index(self, corpus: Any, **_: Any) -> None:
        self.corpus = {row["id"]: row["text"] for row in corpus}

    def search(self, queries: Any, **_: Any) -> dict[str, dict[str, float]]:
        hits = {}
        for row in queries:
            code, topic = next(
                (code, texts.index(row["text"])) for code, texts in QUESTIONS.items() if row["text"] in texts
            )
            passages = {text for texts in SENTENCES.values() for text in [texts[topic]]}
            found = next(name for name, text in self.corpus.items() if text in passages)
            pool = next(code for code, texts in SENTENCES.items() if self.corpus[found] in texts)
            self.asked.append((code, pool))
            hits[row["id"]] = {found: 1.0}
        return hits


def run_offline(entry: SuiteTask, folder: Path, output: Path) -> tuple[ByTopic, dict[str, float]]:
    task = official_task(entry)
    use_offline(task, folder)
    search = ByTopic()
    subsets = run_task(search, "by-topic", task, ["ndcg_at_10"], output)
    return search, {subset.language: subset.mean("ndcg_at_10") for subset in subsets}


def test_an_official_task_runs_from_a_copy_of_the_hubs_files(hub_copy: Path, tmp_path: Path) -> None:
    search, scores = run_offline(SuiteTask(task="NanoNFCorpusRetrieval"), hub_copy, tmp_path)
    assert scores == {"en": 1.0}
    assert search.asked == [("en", "en")] * 4
    stored = next((tmp_path / "mteb" / "results").rglob("NanoNFCorpusRetrieval.json"))
    result = mteb.TaskResult.from_disk(stored)
    assert result.dataset_revision == mteb.get_task("NanoNFCorpusRetrieval").metadata.revision
    assert result.get_score() == 1.0


def test_belebele_subsets_name_the_documents_first_and_our_rows_the_question(hub_copy: Path, tmp_path: Path) -> None:
    entry = SuiteTask(task="BelebeleRetrieval", subsets=["eng_Latn-arb_Arab"], documents_first=True)
    search, scores = run_offline(entry, hub_copy, tmp_path)
    assert scores == {"ar->en": 1.0}
    assert set(search.asked) == {("ar", "en")}


def test_an_aggregate_is_one_row_the_mean_of_its_parts(hub_copy: Path, tmp_path: Path) -> None:
    task = official_task(SuiteTask(task="CQADupstackRetrieval"))
    use_offline(task, hub_copy)
    subsets = run_task(ByTopic(), "by-topic", task, ["ndcg_at_10"], tmp_path)
    assert [subset.task for subset in subsets] == cqadupstack_parts()
    path = next((tmp_path / "queries").rglob("CQADupstackUnixRetrieval/*.json"))
    part = SubsetScores.load(path)
    changed = replace(part, values={"ndcg_at_10": [0.0] * 4})
    others = [subset for subset in subsets if subset.task != part.task]
    assert rows_of(task, [*others, changed], ["ndcg_at_10"]) == {
        Row("CQADupstackRetrieval", "en", "ndcg_at_10"): pytest.approx(11 / 12)
    }
    stored = next((tmp_path / "mteb" / "results").rglob("CQADupstackRetrieval.json"))
    assert mteb.TaskResult.from_disk(stored).get_score() == 1.0


def test_xquad_is_asked_across_languages(hub_copy: Path, tmp_path: Path) -> None:
    search, scores = run_offline(SuiteTask(cross_xquad=["ar-en", "en-ar"]), hub_copy, tmp_path)
    assert scores == {"ar->en": 1.0, "en->ar": 1.0}
    assert set(search.asked) == {("ar", "en"), ("en", "ar")}


def test_xquad_whose_ids_are_not_shared_is_refused(hub_copy: Path, tmp_path: Path) -> None:
    task = CrossLingualXQuAD(["ar-en"])
    use_offline(task, hub_copy)
    data = mteb.get_task("XQuADRetrieval", hf_subsets=["ar", "en"])
    use_offline(data, hub_copy)
    data.load_data()
    data.dataset["en"]["validation"]["relevant_docs"] = {"other": {"en-d0": 1}}
    with pytest.raises(DataError, match="only 0 of 4 questions of ar-en have judgements in the other language"):
        task._pair(data.dataset, "ar-en")


def test_a_copy_that_is_missing_or_of_another_revision_names_the_way(hub_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"no copy of the data set mteb/nfcorpus\n.*\n.*--prefetch"):
        find_snapshot(hub_copy, "mteb/nfcorpus", "abc")
    with pytest.raises(DataError, match=r"mteb/belebele is here in revision \w{40}; the task needs abc\n"):
        find_snapshot(hub_copy, "mteb/belebele", "abc")
    plain = tmp_path / "mteb" / "nfcorpus"
    plain.mkdir(parents=True)
    assert find_snapshot(tmp_path, "mteb/nfcorpus", "abc") == plain


def test_a_copy_that_lacks_a_file_is_one_clear_error(hub_copy: Path, tmp_path: Path) -> None:
    dataset = mteb.get_task("NanoNFCorpusRetrieval").metadata.dataset
    copy = tmp_path / dataset["path"]
    shutil.copytree(find_snapshot(hub_copy, dataset["path"], dataset["revision"]), copy)
    (copy / "queries" / "rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"NanoNFCorpusRetrieval cannot be loaded: .*queries.*\n.*\n.*--offline folder"):
        run_offline(SuiteTask(task="NanoNFCorpusRetrieval"), tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("BelebelRetrieval", "BelebeleRetrieval"), ("MrTydi", "MrTidyRetrieval"), ("xquad", "XQuADRetrieval")],
)
def test_a_task_that_does_not_exist_names_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"MTEB has no task '{wrong}'\n.*{near}.*given by its path, such as \./{wrong}"
    ):
        official_task(SuiteTask(task=wrong))


def test_subsets_splits_and_other_kinds_of_tasks_are_checked() -> None:
    with pytest.raises(
        ConfigError, match=r"BelebeleRetrieval has no subset 'eng_Latn-arb'\n.*the nearest are .*eng_Latn-arb_Arab"
    ):
        official_task(SuiteTask(task="BelebeleRetrieval", subsets=["eng_Latn-arb"]))
    with pytest.raises(ConfigError, match=r"NFCorpus has no split 'dev'\n.*it has test"):
        official_task(SuiteTask(task="NFCorpus", split="dev"))
    with pytest.raises(ConfigError, match="STS12 is a task of type STS; this benchmark runs retrieval tasks"):
        official_task(SuiteTask(task="STS12"))
    with pytest.raises(ConfigError, match="cross_xquad: 'ar-xx' must be QUERY-DOCUMENT, two of ar, de"):
        official_task(SuiteTask(cross_xquad=["ar-xx"]))


def test_every_suite_names_real_tasks_subsets_tables_and_recipes() -> None:
    from mcontriever.evaluation.published import published_systems

    assert {"atlas", "beir", "cross-script", "miracl", "mkqa", "mr-tydi", "nano-beir", "open-qa"} <= set(suite_names())
    tasks = {}
    for name in suite_names():
        suite = load_suite(name)
        assert suite.name == name
        tasks[name] = [official_task(entry) for entry in suite.tasks if entry.folder is None]
        systems = {system.name for system in published_systems(suite.published)}
        assert set(suite.highlighted) <= systems, name
        for entry in suite.question_sets:
            assert question_set(entry).questions > 2000
    assert len(tasks["beir"]) == 15
    assert sum(len(leaves_of(task)) for task in tasks["beir"]) == 14 + 12  # CQADupstack is twelve
    assert [len(task.hf_subsets) for task in tasks["mr-tydi"] + tasks["miracl"]] == [11, 18]
    assert [len(task.hf_subsets) for task in tasks["miracl-hard"] + tasks["peerqa"]] == [18, 1]
    assert len(repositories_of(tasks["nano-beir"])) == 13
    assert len(question_set("mkqa").languages) == 26
    assert passage_file("psgs_w100").passages == 21_015_324
    ways = {
        way for task in tasks["cross-script"] for subset, way in task.directions.items() if subset in task.hf_subsets
    }
    assert {"ar->en", "en->ar", "sw->en", "en->sw", "zh->en", "en->zh"} <= ways
    assert all("en" in way.split("->") and "->" in way for way in ways)


def test_unknown_suites_and_wrong_metrics_are_errors(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no suite 'cross-scrpt'\n.*did you mean cross-script\? The suites are atlas,"
    ):
        load_suite("cross-scrpt")
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndescription: x\ntasks: [{task: NFCorpus}]\nmetrics: [ndcg@10]\n")
    with pytest.raises(ConfigError, match="ndcg@10 must be KIND_at_DEPTH: a kind of ndcg, map"):
        load_suite(str(path))
    path.write_text("name: mine\ndescription: x\ntasks: [{task: NFCorpus, folder: here}]\n")
    with pytest.raises(ConfigError, match=r"exactly one of task, folder, cross_xquad; found \['task', 'folder'\]"):
        load_suite(str(path))


def test_tasks_are_folders_by_their_path_and_mtebs_by_their_name(tmp_path: Path) -> None:
    suite = suite_of_tasks([str(tmp_path), "./missing", "NFCorpus"])
    assert [(entry.folder, entry.task) for entry in suite.tasks] == [
        (str(tmp_path), None),
        ("./missing", None),
        (None, "NFCorpus"),
    ]
    assert suite.needs_hub
