"""ragged.py against lists of lists: taking, cutting, keeping, splitting, padding; mapped from disk as in memory."""

from pathlib import Path

import numpy as np
import pytest

from mcontriever.npy_files import mapped
from mcontriever.ragged import Ragged, spans

LENGTHS = (3, 0, 5, 1, 0, 4)


@pytest.fixture(params=["memory", "disk"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Ragged, list[list[int]]]:
    lists = [[100 * row + place for place in range(length)] for row, length in enumerate(LENGTHS)]
    rows = Ragged.of(lists)
    if request.param == "disk":
        np.save(tmp_path / "values.npy", rows.values_T)
        np.save(tmp_path / "offsets.npy", rows.offsets)
        rows = Ragged(mapped(tmp_path / "values.npy"), mapped(tmp_path / "offsets.npy"))
    return rows, lists


def test_rows_are_those_of_the_lists(both: tuple[Ragged, list[list[int]]]) -> None:
    rows, lists = both
    assert len(rows) == len(lists)
    assert rows.to_lists() == [rows[row].tolist() for row in range(len(rows))] == lists
    assert rows.lengths_N.tolist() == list(LENGTHS)
    assert rows.rows_T.tolist() == [row for row, values in enumerate(lists) for _ in values]
    assert rows.places_T.tolist() == [place for values in lists for place in range(len(values))]


def test_taking_and_joining(both: tuple[Ragged, list[list[int]]]) -> None:
    rows, lists = both
    for chosen in ([2, 0, 2, 1], [], [5]):
        taken = rows.take(np.array(chosen, dtype=np.int64))
        assert taken.to_lists() == [lists[row] for row in chosen]
    assert Ragged.join([rows, rows.take(np.array([3]))]).to_lists() == [*lists, lists[3]]


def test_cutting_keeping_and_splitting(both: tuple[Ragged, list[list[int]]]) -> None:
    rows, lists = both
    first, lengths = np.array([1, 0, 2, 0, 0, 1]), np.array([2, 0, 2, 1, 0, 0])
    expected = [values[start : start + length] for values, start, length in zip(lists, first, lengths, strict=True)]
    assert rows.cut(first, lengths).to_lists() == expected
    keep_T = rows.values_T % 2 == 0
    assert rows.keep(keep_T).to_lists() == [[value for value in values if value % 2 == 0] for values in lists]
    for place in range(len(lists) + 1):
        before, after = rows.split(place)
        assert (before.to_lists(), after.to_lists()) == (lists[:place], lists[place:])
    assert rows.with_values(rows.values_T + 1).to_lists() == [[value + 1 for value in values] for values in lists]


@pytest.mark.parametrize("width", [None, 7])
def test_padding(both: tuple[Ragged, list[list[int]]], width: int | None) -> None:
    rows, lists = both
    chosen = [2, 1, 3]
    padded = rows.padded(np.array(chosen), width=width)
    columns = width or 5
    assert padded.tolist() == [lists[row] + [-1] * (columns - len(lists[row])) for row in chosen]


def test_spans_are_ranges() -> None:
    first, lengths = np.array([5, 0, 9]), np.array([2, 0, 3])
    assert spans(first, lengths).tolist() == [5, 6, 9, 10, 11]
    assert spans(first[:0], lengths[:0]).tolist() == []
