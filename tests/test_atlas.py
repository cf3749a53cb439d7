"""The atlas keeps its promises: counts, lengths, scripts, disjoint halves, an answer for every question."""

import re
from pathlib import Path

import pytest

import mcontriever
from mcontriever.texts.beir_folder import BeirFolder
from mcontriever.texts.documents import Document, Query

ATLAS = Path(mcontriever.__file__).parent / "atlas"
LANGUAGES = ["en", "ar", "sw", "fr", "hi", "zh"]
SCRIPTS = {"ar": r"[\u0600-\u06ff]", "hi": r"[\u0900-\u097f]", "zh": r"[\u4e00-\u9fff]"}
HALVES = {"train": "train", "evaluation": "test"}


def load(half: str) -> tuple[list[Document], list[Query], dict[str, dict[str, int]]]:
    folder = BeirFolder.load(ATLAS / half)
    return list(folder.documents()), list(folder.queries()), folder.relevance(HALVES[half])


def topics(half: str, language: str) -> set[str]:
    return {document.id.split("/")[0] for document in load(half)[0] if document.language == language}


def test_the_halves_share_no_topic_and_no_sentence() -> None:
    assert topics("train", "en").isdisjoint(topics("evaluation", "en"))
    assert len(topics("train", "en")) == len(topics("evaluation", "en")) == 32
    texts = [document.text for half in HALVES for document in load(half)[0]]
    assert len(set(texts)) == len(texts) == 284


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_at_least_forty_topics_in_every_language(language: str) -> None:
    assert len(topics("train", language) | topics("evaluation", language)) >= 40


@pytest.mark.parametrize("half", HALVES)
def test_passages_have_the_length_and_script_of_their_language(half: str) -> None:
    for document in load(half)[0]:
        letters = [character for character in document.text if character.isalpha()]
        if document.language == "zh":
            assert 110 <= len(document.text) <= 220, document.id
        else:
            assert 60 <= len(document.text.split()) <= 120, document.id
        own = re.findall(SCRIPTS.get(document.language, r"[A-Za-z\u00c0-\u024f]"), document.text)
        assert len(own) > 0.85 * len(letters), document.id


@pytest.mark.parametrize("half", HALVES)
def test_two_questions_in_every_language_and_all_versions_answer_them(half: str) -> None:
    documents, queries, relevance = load(half)
    versions: dict[str, set[str]] = {}
    for document in documents:
        versions.setdefault(document.id.split("/")[0], set()).add(document.id)
    assert {query.id for query in queries} == set(relevance)
    assert len({query.text for query in queries}) == len(queries) == 32 * 6 * 2
    for query in queries:
        topic, language, _ = query.id.split("/")
        assert query.language == language
        assert set(relevance[query.id]) == versions[topic]
