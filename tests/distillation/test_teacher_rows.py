"""Vectors are found by text."""

import numpy as np
import pytest

from mcontriever.distillation.teacher_rows import find_rows, refuse_missing, text_hashes
from mcontriever.errors import StoreError

STORE = ["one", "two", "two", "three"]


def test_each_text_finds_its_first_row_and_a_changed_one_none() -> None:
    wanted = ["three", " two ", "Two", "one", ""]
    expected = [STORE.index(text.strip()) if text.strip() in STORE else -1 for text in wanted]
    assert find_rows(text_hashes(STORE), text_hashes(wanted)).tolist() == expected
    assert find_rows(text_hashes([]), text_hashes(["one"])).tolist() == [-1]


def test_missing_texts_are_one_clear_error() -> None:
    refuse_missing(np.array([0, 3]), "queries", "", "store", "embed")
    with pytest.raises(StoreError) as changed:
        refuse_missing(np.array([0, -1]), "queries", "where is it?", "store", "mcontriever embed Q")
    assert str(changed.value) == (
        "the teacher's store has no vector for 1 of 2 queries (the texts have changed since); "
        "the first is 'where is it?'\n  where: store\n  fix: embed them as they are now: mcontriever embed Q"
    )
    with pytest.raises(StoreError, match="for 2 of 2 passages \\(it is a store of other texts\\)"):
        refuse_missing(np.array([-1, -1]), "passages", "x", "store", "mcontriever embed P")
