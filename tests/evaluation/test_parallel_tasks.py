"""MTEB's tasks with parallel documents as one pool, from tiny copies in the hub's layout."""

from pathlib import Path
from typing import Any

import mteb
import pytest

from mcontriever.benchmark import Request, run
from mcontriever.errors import ConfigError, DataError
from mcontriever.evaluation.official_tasks import official_task, use_offline
from mcontriever.evaluation.suites import Suite, SuiteTask, scattered_suite
from tests.evaluation.conftest import QUESTIONS, SENTENCES, repository_files, write_snapshot

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets.*", "ignore::UserWarning:mteb.*")
TOPIC_OF = {text: topic for texts in [*SENTENCES.values(), *QUESTIONS.values()] for topic, text in enumerate(texts)}


@pytest.fixture(autouse=True)
def _own_arrow_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("arrow"))


def loaded(entry: SuiteTask, folder: Path) -> Any:
    task = official_task(entry)
    use_offline(task, folder)
    task.load_data()
    return task


def answers_of(task: Any) -> dict[str, dict[str, set[str]]]:
    """Language of the questions -> question -> texts that answer it."""
    found: dict[str, dict[str, set[str]]] = {}
    for asked, splits in task.dataset.items():
        (data,) = splits.values()
        text_of = dict(zip(data["corpus"]["id"][:], data["corpus"]["text"][:], strict=True))
        question_of = dict(zip(data["queries"]["id"][:], data["queries"]["text"][:], strict=True))
        found[asked] = {
            question_of[query]: {text_of[key] for key in relevant} for query, relevant in data["relevant_docs"].items()
        }
    return found


@pytest.mark.parametrize(
    ("name", "subsets"), [("XQuADRetrieval", ["ar", "en"]), ("BelebeleRetrieval", ["eng_Latn-arb_Arab"])]
)
def test_each_passage_stands_in_one_language_and_is_asked_in_all(hub_copy: Path, name: str, subsets: list[str]) -> None:
    task = loaded(SuiteTask(task=name, subsets=subsets, pool="scattered"), hub_copy)
    assert task.metadata.name == f"{name}-scattered"
    assert task.directions == {"ar": "ar->mixed", "en": "en->mixed"}
    corpus = next(iter(task.dataset["ar"].values()))["corpus"]
    assert sorted(TOPIC_OF[text] for text in corpus["text"]) == [0, 1, 2, 3]
    assert sorted(corpus["language"]) == ["ar", "ar", "en", "en"]
    for asked, answers in answers_of(task).items():
        kept = {TOPIC_OF[text]: text for text in corpus["text"]}
        assert answers == {question: {kept[topic]} for topic, question in enumerate(QUESTIONS[asked])}


def test_a_pool_asked_in_the_passages_own_language(hub_copy: Path) -> None:
    task = loaded(SuiteTask(task="BelebeleRetrieval", subsets=["eng_Latn-arb_Arab"], pool="own"), hub_copy)
    for asked, answers in answers_of(task).items():
        assert len(answers) == 2
        for question, texts in answers.items():
            assert texts == {SENTENCES[asked][TOPIC_OF[question]]}


def mlqa(
    home: Path,
    contexts: dict[str, list[str]],
    place_of: dict[str, list[int]],
    questions: dict[str, list[str]] = QUESTIONS,
) -> Path:
    """Questions 0 to 3 in Arabic and English, each about one context of either language: `place_of` tells which."""
    codes = {"ara": "ar", "eng": "en"}
    parts = {
        f"{found}-{asked}-": {
            "corpus": [
                {"_id": f"c{place}", "title": "", "text": text} for place, text in enumerate(contexts[codes[found]])
            ],
            "queries": [{"_id": f"{asked}{n}", "text": text} for n, text in enumerate(questions[codes[asked]])],
            "qrels": [
                {"query-id": f"{asked}{n}", "corpus-id": f"c{place}", "score": 1}
                for n, place in enumerate(place_of[codes[found]])
            ],
        }
        for found in codes
        for asked in codes
    }
    dataset = mteb.get_task("MLQARetrieval").metadata.dataset
    write_snapshot(home, dataset["path"], dataset["revision"], repository_files(parts, "test"))
    return home


def test_passages_that_cannot_be_told_apart_are_left_out_and_counted(tmp_path: Path) -> None:
    english = [f"{SENTENCES['en'][0]} {SENTENCES['en'][1]}", *SENTENCES["en"][2:]]
    home = mlqa(tmp_path, {"ar": SENTENCES["ar"], "en": english}, {"ar": [0, 1, 2, 3], "en": [0, 0, 1, 2]})
    task = loaded(SuiteTask(task="MLQARetrieval", subsets=["ara-eng"], pool="scattered"), home)
    assert task.counts == {"documents of passages that cannot be told apart": 3, "queries about them": 4}
    corpus = task.dataset["en"]["test"]["corpus"]
    assert sorted(TOPIC_OF[text] for text in corpus["text"]) == [2, 3]
    assert set(answers_of(task)["ar"]) == set(QUESTIONS["ar"][2:])


def test_a_question_that_is_asked_of_two_passages_joins_neither(tmp_path: Path) -> None:
    """As Belebele asks "which of these is true?"; the other questions tell the passages apart."""
    twice = {language: [texts[0], texts[1], texts[0], texts[2]] for language, texts in QUESTIONS.items()}
    contexts = {language: SENTENCES[language][:2] for language in ("ar", "en")}
    places = [0, 0, 1, 1]
    task = loaded(
        SuiteTask(task="MLQARetrieval", subsets=["ara-eng"], pool="scattered"),
        mlqa(tmp_path, contexts, {"ar": places, "en": places}, twice),
    )
    assert task.counts == {"documents of passages that cannot be told apart": 0, "queries about them": 0}
    for asked, answers in answers_of(task).items():
        topics = {question: sorted(TOPIC_OF[text] for text in texts) for question, texts in answers.items()}
        assert list(topics) == QUESTIONS[asked][:3]
        assert list(topics.values()) == [[0, 1], [0], [1]]


def test_a_copy_whose_questions_share_no_ids_is_refused(hub_copy: Path) -> None:
    task = official_task(SuiteTask(task="XQuADRetrieval", subsets=["en"], pool="scattered"))
    use_offline(task, hub_copy)
    with pytest.raises(DataError, match="no question is answered by documents in several languages"):
        task.load_data()


def test_scatter_makes_a_pool_of_every_task(hub_copy: Path, tmp_path: Path) -> None:
    suite = Suite(name="s", description="", tasks=[SuiteTask(cross_xquad=["ar-en", "en-ar"])])
    assert scattered_suite(suite).tasks == [SuiteTask(task="XQuADRetrieval", subsets=["ar", "en"], pool="scattered")]
    with pytest.raises(ConfigError, match="NFCorpus keeps each language's documents apart"):
        official_task(SuiteTask(task="NFCorpus", pool="scattered"))
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndescription: x\ntasks: [{task: XQuADRetrieval, subsets: [ar, en]}]\n")
    output = tmp_path / "out"
    run(Request(models=["bm25:words"], suite=str(path), scatter=True, offline=hub_copy, output=output))
    assert "XQuADRetrieval-scattered, bm25:words: the worst pair is " in (output / "scores.md").read_text()
