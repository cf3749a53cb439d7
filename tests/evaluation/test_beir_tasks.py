import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcontriever.errors import DataError
from mcontriever.evaluation.beir_tasks import beir_task
from tests.evaluation.conftest import write_beir

DOCUMENTS = [
    {"_id": "d1", "title": "River", "text": "It rises in the hills.", "language": "en"},
    {"_id": "d2", "title": "", "text": "مطر", "language": "ar"},
    {"_id": "d3", "title": "", "text": "", "language": "km"},
]
QUERIES = [
    {"_id": "q1", "text": "where?", "language": "en"},
    {"_id": "q2", "text": "متى", "language": "ar"},
    {"_id": "q3", "text": "lini?", "language": "sw"},
]


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("mcontriever")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_a_mixed_folder_has_a_subset_per_query_language_over_one_pool(mixed_folder: Path) -> None:
    task = beir_task(mixed_folder)
    assert task.hf_subsets == ["ar", "en", "hi", "sw", "zh"]
    assert task.directions["sw"] == "sw->mixed"
    assert task.metadata.eval_langs["sw"][0] == "swa-Latn"
    assert {code for codes in task.metadata.eval_langs.values() for code in codes} == {
        "ara-Arab", "eng-Latn", "hin-Deva", "swa-Latn", "zho-Hans",
    }  # fmt: skip
    assert len({id(task.dataset[subset]["test"]["corpus"]) for subset in task.hf_subsets}) == 1
    assert task.dataset["sw"]["test"]["relevant_docs"]["sw-q2"] == dict.fromkeys(
        ("en-d2", "ar-d2", "sw-d2", "hi-d2", "zh-d2"), 1
    )


def test_a_folder_of_one_direction_is_one_subset(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "ar-en", DOCUMENTS[:1], QUERIES[1:2], {"q2": {"d1": 1}})
    task = beir_task(folder)
    assert task.hf_subsets == ["default"]
    assert task.directions == {"default": "ar->en"}
    assert task.metadata.eval_langs == ["ara-Arab", "eng-Latn"]
    assert task.metadata.name == "ar-en"


def test_the_pool_may_be_the_documents_of_one_language(mixed_folder: Path) -> None:
    task = beir_task(mixed_folder, languages=["en"])
    assert task.metadata.name == "mixed-en"
    assert task.directions == {"en": "en", **{code: f"{code}->en" for code in ("ar", "hi", "sw", "zh")}}
    assert task.dataset["sw"]["test"]["corpus"]["id"][:] == [f"en-d{topic}" for topic in range(4)]
    assert task.dataset["sw"]["test"]["relevant_docs"]["sw-q2"] == {"en-d2": 1}
    assert task.counts["judgements of unknown documents"] == 0


def test_everything_odd_is_counted_and_reported(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    relevance = {"q1": {"d1": 1, "d9": 1, "d8": 2}, "q2": {"d7": 1}, "q9": {"d1": 1}}
    queries = [*QUERIES, {"_id": "q4", "text": "?", "language": "xx"}]
    folder = write_beir(tmp_path / "odd", DOCUMENTS, queries, {**relevance, "q4": {"d2": 1}})
    task = beir_task(folder)
    assert task.counts == {
        "documents": 3,
        "documents without text": 1,
        "queries": 2,
        "queries without a relevant document": 2,
        "judgements of unknown queries": 1,
        "judgements of unknown documents": 3,
        "document languages without queries (ar, km)": 2,
        "unknown language codes (xx)": 1,
    }
    assert (
        "odd: 2 queries, 3 documents; 1 documents without text; 2 queries without a relevant document" in messages.text
    )


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_beir(tmp_path / "set", DOCUMENTS, QUERIES, {"q1": {"d1": 1}})
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"no file {name} \(or .*\n.*set\n.*a BEIR folder holds corpus\.jsonl"):
        beir_task(folder)


def test_qrels_of_another_set_are_refused_with_the_counts(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "set", DOCUMENTS, QUERIES, {"q1": {"other-1": 1}, "q2": {"other-2": 1}})
    with pytest.raises(
        DataError, match=r"no query has a relevant document \(3 queries, 2 judged, 2 judgements of unknown"
    ):
        beir_task(folder)


def test_an_id_twice_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "twice", [*DOCUMENTS, DOCUMENTS[0]], QUERIES, {"q1": {"d1": 1}})
    with pytest.raises(DataError, match=r"duplicate id 'd1'\n.*corpus\.jsonl"):
        beir_task(folder)
    folder = write_beir(tmp_path / "empty", [], QUERIES, {"q1": {"d1": 1}})
    with pytest.raises(DataError, match=r"the file is empty\n.*corpus\.jsonl"):
        beir_task(folder)


def test_changed_files_make_another_revision(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "set", DOCUMENTS, QUERIES, {"q1": {"d1": 1}})
    before = beir_task(folder).metadata.revision
    assert beir_task(folder).metadata.revision == before
    with open(folder / "qrels" / "test.tsv", "a") as file:
        file.write("q2\td2\t1\n")
    assert beir_task(folder).metadata.revision != before
