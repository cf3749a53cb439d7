"""Detected languages: as py3langid gives for one text at a time."""

import numpy as np
import pytest

from mcontriever.texts import language_detection
from mcontriever.texts.documents import Document
from mcontriever.texts.language_detection import likely_languages, with_detected_languages

ODD_TEXTS = ["", "   ", "1234 - 56", "\ud800 broken", "a", "THE RIVER RISES IN THE HILLS", "e\u0301te\u0301"]


@pytest.fixture(scope="module")
def texts(sentences):
    return [text for language in sentences.values() for text in language]


def test_probabilities_are_py3langids(texts):
    model = language_detection._model()
    encoded = [language_detection._bytes_of(text) for text in [*texts, *ODD_TEXTS, "long " * 200]]
    found_NL = language_detection._probabilities(encoded)
    for text, found_L in zip(encoded, found_NL, strict=True):
        expected = model.rank(text)
        together = {name: 0.0 for name, _ in expected}
        for name, probability in zip(model.nb_classes, found_L.tolist(), strict=True):
            together[name] += probability
        np.testing.assert_allclose([together[name] for name, _ in expected], [p for _, p in expected], atol=1e-3)


def test_sentences_are_in_their_languages(sentences):
    for language, texts in sentences.items():
        assert [found for found, _ in likely_languages(texts)] == [language] * len(texts)


def test_a_text_has_the_same_language_alone_and_among_others(texts, monkeypatch):
    together = [language for language, _ in likely_languages([*texts, *ODD_TEXTS])]
    monkeypatch.setattr(language_detection, "TEXTS_AT_ONCE", 3)
    assert [language for language, _ in likely_languages([*texts, *ODD_TEXTS])] == together
    assert [likely_languages([text])[0][0] for text in [*texts, *ODD_TEXTS]] == together


@pytest.mark.parametrize("text", ["", "   ", "1234 - 56", "a", "\ud800"])
def test_what_says_too_little_is_unknown(text):
    assert likely_languages([text])[0][0] == ""


def test_written_forms_count_as_one_language():
    names, column_L = language_detection._labels()
    labels = language_detection._model().nb_classes
    assert names[column_L[labels.index("yue")]] == "zh"
    assert "wuu" not in names


def test_only_unnamed_documents_are_judged(sentences):
    swahili = sentences["sw"][0]
    documents = [Document("1", swahili), Document("2", swahili, language="xx"), Document("3", "42")]
    found = with_detected_languages(documents)
    assert [(one.language, one.language_detected) for one in found] == [("sw", True), ("xx", False), ("", False)]
    assert with_detected_languages([Document("4", "", swahili)])[0].language == "sw"
    assert with_detected_languages([]) == []
