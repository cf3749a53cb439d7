"""passages.py: everything is covered, neighbours overlap as asked, short texts stay as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcontriever.errors import ConfigError
from mcontriever.retrieval.store.passages import PassageLength, cut, passages_of
from mcontriever.texts.documents import Document


def test_a_short_text_is_one_passage_unchanged() -> None:
    assert cut("  three short  words ", PassageLength(3, 1)) == ["  three short  words "]
    assert cut("", PassageLength(3, 1)) == [""]


def test_neighbours_share_the_overlap() -> None:
    assert cut("a b c d e f g", PassageLength(3, 1)) == ["a b c", "c d e", "e f g"]
    assert cut("a b c d e f g", PassageLength(3, 0)) == ["a b c", "d e f", "g"]
    assert cut("a, b. c! (d) e?", PassageLength(2, 1)) == ["a, b.", "b. c! (", "c! (d)", "d) e?"]


def test_unspaced_characters_count_half() -> None:
    assert cut("一二三四五六七", PassageLength(2, 1)) == ["一二三四", "三四五六", "五六七"]


@given(st.integers(1, 60), st.integers(1, 12), st.data())
def test_against_slices_of_the_word_list(count: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    words = [f"w{number}" for number in range(count)]
    expected, first = [], 0
    while True:
        expected.append(" ".join(words[first : first + size]))
        if first + size >= count:
            break
        first += size - overlap
    assert cut(" ".join(words), PassageLength(size, overlap)) == expected


def test_passages_carry_their_document_and_number() -> None:
    document = Document("x", "a b c d", "title", "en")
    passages = passages_of(document, PassageLength(2, 0))
    assert [(passage.document, passage.part, passage.text) for passage in passages] == [
        (document, 0, "a b"),
        (document, 1, "c d"),
    ]
    assert [passage.text for passage in passages_of(document, None)] == ["a b c d"]


def test_an_overlap_that_never_advances_is_refused() -> None:
    with pytest.raises(ConfigError, match="passages of 5 words with an overlap of 5"):
        PassageLength(5, 5)
