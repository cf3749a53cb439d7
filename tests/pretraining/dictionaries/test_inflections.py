"""Forms and the words they belong to."""

import pytest

from mcontriever.pretraining.dictionaries.inflections import Lemmas


@pytest.mark.parametrize(
    ("language", "form", "word"),
    [
        ("en", "Cities", "city"),
        ("en", "running", "run"),
        ("en", "making", "make"),
        ("en", "«dogs»", "dog"),
        ("en", "Kenya's", "Kenya"),
        ("ar", "والمدينة", "مدينة"),
        ("ar", "مدينتهم", None),
        ("ar", "بالكتاب", "كتاب"),
        ("ar", "مدينته", "مدينة"),
        ("he", "הספרים", "ספר"),
        ("sw", "wanasoma", "soma"),
        ("ru", "Университета,", "университет"),
        ("ru", "книгами", "книга"),
        ("fi", "taloissamme", "taloissa"),
        ("hi", "किताबों", "किताब"),
        ("ko", "학교에서", "학교"),
        ("ru", "он", None),
        ("de", "", None),
        ("de", "...", None),
    ],
)
def test_forms(language: str, form: str, word: str | None) -> None:
    words = ["city", "run", "make", "dog", "Kenya", "مدينة", "كتاب", "ספר", "soma", "университет", "книга"]
    assert Lemmas(language, [*words, "taloissa", "किताब", "학교"]).lemma_of(form) == word


def test_the_longest_stem_and_then_the_shortest_word() -> None:
    lemmas = Lemmas("de", ["Arbeiter", "Arbeit", "Arbeitsamt"])
    assert [lemmas.lemma_of(form) for form in ("Arbeits", "Arbeitern", "Arbeitsamts", "arbeit")] == [
        "Arbeit",
        "Arbeiter",
        "Arbeitsamt",
        "Arbeit",
    ]


def test_the_order_of_the_words_does_not_matter() -> None:
    words = ["книга", "книжный", "книголюб"]
    forms = ["книги", "книжного", "книголюбами", "кни"]
    one, other = Lemmas("ru", words), Lemmas("ru", reversed(words))
    assert [one.lemma_of(form) for form in forms] == [other.lemma_of(form) for form in forms]
