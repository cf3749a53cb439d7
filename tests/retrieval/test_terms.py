"""words.py: what counts as a word, in scripts with spaces and without."""

import pytest

from mcontriever.retrieval.terms import document_terms, index_terms, word_spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World! it's 2024", ["hello", "world", "it", "s", "2024"]),
        ("नदी पहाड़ियों से", ["नदी", "पहाड़ियों", "से"]),  # vowel signs are part of their word
        ("这条河 ABC漫长", ["这条", "条河", "abc", "漫长"]),
        ("河", ["河"]),
        ("ภาษา", ["ภา", "าษ", "ษา"]),
        ("日本のテスト", ["日本", "本の", "のテ", "テス", "スト"]),
        ("ភាសា", ["ភាសា"]),  # two letters, each with its vowel sign
        ("يَنْبُعُ العـــربية", ["ينبع", "العربيه"]),  # points and stretches carry no meaning
        ("أحمد إلى آخر مدرسة ٱلكتاب", ["احمد", "الي", "اخر", "مدرسه", "الكتاب"]),  # writers use these for each other
        ("שלום ארץ", ["שלומ", "ארצ"]),  # a letter's form at the end of a word
        ("کتاب یک", ["كتاب", "يك"]),
        ("ＡＢＣ １２３", ["abc", "123"]),
        ("Straße İstanbul ΣΊΣΥΦΟΣ", ["strasse", "istanbul", "σίσυφοσ"]),
        ("a😀b\u200b—c", ["a", "b", "c"]),
        ("", []),
        (" \n\t…", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert index_terms(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pão e ação, em Łódź", ["pão", "pao", "e", "ação", "acao", "em", "łódź", "lodz"]),
        ("Ёлки и ель", ["ёлки", "елки", "и", "ель"]),
        ("Việt Nam đã", ["việt", "viet", "nam", "đã", "da"]),
        ("Αθήνα", ["αθήνα", "αθηνα"]),
        ("नदी 한국어 이름é パリ", ["नदी", "한국어", "이름é", "이름e", "パリ"]),  # signs that are letters stay
        ("plain words", ["plain", "words"]),
    ],
)
def test_words_of_a_document_stand_without_their_accents_too(text: str, expected: list[str]) -> None:
    assert document_terms(text) == expected


def test_spans_point_into_the_text_and_unspaced_characters_weigh_half() -> None:
    text = "The river 这条 flows"
    spans = list(word_spans(text))
    assert [text[start:stop] for start, stop, _ in spans] == ["The", "river", "这", "条", "flows"]
    assert [weight for _, _, weight in spans] == [1, 1, 0.5, 0.5, 1]
