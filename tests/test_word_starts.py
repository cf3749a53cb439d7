"""Where words begin, told from the pieces of two kinds of tokenizer."""

from typing import Any

import numpy as np
import pytest

from mcontriever.ragged import Ragged
from mcontriever.word_starts import WordBoundaries
from tests.pretraining.small_tokenizers import sentencepiece_tokenizer, wordpiece_tokenizer

TEXT = "unhappy dogs, 好天 बिल्ली ok."
SENTENCEPIECE = ["▁", "▁un", "happy", "▁dog", "s", ",", "好", "天", "▁बि", "ल्ली", "▁ok", "."]
WORDPIECE = ["un", "##happy", "dog", "##s", ",", "好", "天", "बि", "##ल्ली", "ok", "."]
SENTENCEPIECE_WORDS = [["▁un", "happy"], ["▁dog", "s"], [","], ["▁"], ["好"], ["天"], ["▁बि", "ल्ली"], ["▁ok"], ["."]]
WORDPIECE_WORDS = [["un", "##happy"], ["dog", "##s"], [","], ["好"], ["天"], ["बि", "##ल्ली"], ["ok"], ["."]]


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (sentencepiece_tokenizer(SENTENCEPIECE), SENTENCEPIECE_WORDS),
        (wordpiece_tokenizer(WORDPIECE), WORDPIECE_WORDS),
    ],
    ids=["sentencepiece", "wordpiece"],
)
def test_words_of_a_text_in_three_scripts(tokenizer: Any, expected: list[list[str]]) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    boundaries = WordBoundaries.of(tokenizer)
    word_T = boundaries.word_of_T(Ragged.of([ids, ids]))
    assert word_T[: len(ids)].tolist() == word_T[len(ids) :].tolist()
    pieces = np.array(tokenizer.convert_ids_to_tokens(ids))
    assert [pieces[word_T[: len(ids)] == word].tolist() for word in range(word_T.max() + 1)] == expected


def test_a_row_that_begins_inside_a_word_begins_a_word_and_empty_rows_are_passed_over() -> None:
    tokenizer = sentencepiece_tokenizer(SENTENCEPIECE)
    happy, dog, s = tokenizer.convert_tokens_to_ids(["happy", "▁dog", "s"])
    rows = Ragged.of([[], [happy, dog, s], [], [s, dog], []])
    boundaries = WordBoundaries.of(tokenizer)
    assert boundaries.starts_T(rows).tolist() == [True, True, False, True, True]
    assert boundaries.word_of_T(rows).tolist() == [0, 1, 1, 0, 1]
