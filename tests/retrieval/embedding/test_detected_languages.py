"""A corpus that names no languages: they are detected, marked, counted, and found again by a repair."""

import logging
from pathlib import Path

import pytest

from mcontriever import verify
from mcontriever.encoder import Encoder
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.language_statistics import compute_language_statistics, open_language_statistics
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.shard_files import DETECTED
from mcontriever.retrieval.store.store_edits import compact, delete
from mcontriever.texts.documents import Document
from mcontriever.texts.language_detection import with_detected_languages
from tests.retrieval.small_corpora import make_store, mixed_documents

NAMED = mixed_documents(12)
UNNAMED = [Document(one.id, one.text, one.title) for one in NAMED]
CORPUS = [*UNNAMED, Document("number", "42"), Document("told", NAMED[0].text, language="xx")]


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return make_store(tmp_path / "s", CORPUS, None, shard_documents=7)


def languages_of(store: EmbeddingStore) -> list[str]:
    codes_N, names = store.languages
    return [names[code] for code in codes_N]


def test_languages_are_detected_and_marked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mcontriever"):
        store = make_store(tmp_path / "s", CORPUS, None, shard_documents=7)
    assert languages_of(store) == [*(one.language for one in NAMED), "", "xx"]
    marks = [flag for number in range(2) for flag in store.table(number)[DETECTED].to_pylist()]
    assert marks == [True] * 12 + [False] * 2
    assert [shard.detected_languages for shard in store.manifest.shards] == [7, 5]
    told = "of 14 texts the languages of 12 were detected; those of 1 are unknown"
    assert told in caplog.text


def test_detection_can_be_turned_off(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", CORPUS, None, detects_languages=False)
    assert languages_of(store) == [""] * 13 + ["xx"]
    assert DETECTED not in store.table(0).column_names
    assert not store.manifest.runs[0].detects_languages


def test_a_language_for_all_leaves_nothing_to_detect(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", UNNAMED, None, language="sw")
    assert set(languages_of(store)) == {"sw"}
    assert store.manifest.shards[0].detected_languages == 0


def test_a_repair_detects_them_again(store: EmbeddingStore) -> None:
    before = languages_of(store)
    (store.folder / "documents-00000.parquet").write_bytes(b"damaged")
    verify.run(store.folder, repair=True)
    repaired = EmbeddingStore.open(store.folder)
    assert languages_of(repaired) == before
    assert repaired.table(0)[DETECTED].to_pylist() == [True] * 7


def test_compaction_keeps_the_marks_and_counts(store: EmbeddingStore) -> None:
    delete(store.folder, ["d1", "number"])
    compact(store.folder)
    compacted = EmbeddingStore.open(store.folder)
    assert [shard.detected_languages for shard in compacted.manifest.shards] == [6, 5]
    assert languages_of(compacted) == [one.language for one in NAMED if one.id != "d1"] + ["xx"]


def test_appended_documents_are_judged_by_their_own_run(store: EmbeddingStore, tmp_path: Path) -> None:
    more = [replace_id(one) for one in UNNAMED[:5]]
    (tmp_path / "more").mkdir()
    corpus = make_store(tmp_path / "more" / "m", more, None).folder.with_suffix(".jsonl")
    embed(EmbeddingRequest(str(corpus), store.folder, mode="append", detects_languages=False))
    assert languages_of(EmbeddingStore.open(store.folder))[14:] == [""] * 5


def replace_id(document: Document) -> Document:
    return Document(f"more-{document.id}", document.text, document.title)


def test_a_text_plainly_in_another_language_counts_for_that_one(tmp_path: Path, encoder: Encoder) -> None:
    """Its label stays for filters; calibration and words go by what is written."""
    wrong = [Document(one.id, one.text, one.title, "en" if one.language == "ar" else one.language) for one in NAMED]
    store = make_store(tmp_path / "s", wrong, encoder, shard_documents=7)
    assert languages_of(store) == [one.language for one in wrong]
    codes_N, names = store.text_languages
    assert [names[code] for code in codes_N] == [one.language for one in NAMED]
    assert sum(shard.text_languages["ar"] for shard in store.manifest.shards) == 3
    statistics = open_language_statistics(store)
    assert dict(zip(statistics.languages, statistics.counts_L.tolist(), strict=True))["ar"] == 3
    delete(store.folder, ["d1"])
    compact(store.folder)
    compacted = EmbeddingStore.open(store.folder)
    codes_N, names = compacted.text_languages
    assert [names[code] for code in codes_N] == [one.language for one in NAMED if one.id != "d1"]
    assert not open_language_statistics(compacted).differs_from(compute_language_statistics(compacted))


@pytest.mark.parametrize("label", ["ar-EG", "AR", "arb", "my own name"])
def test_labels_that_are_right_or_not_known_stay(label: str) -> None:
    arabic = next(one for one in NAMED if one.language == "ar")
    document = Document("1", arabic.text, language=label)
    assert with_detected_languages([document]) == [document]
