"""drops.py: counts are complete, places are the first ones, and strict stops at the first."""

import pytest

from mcontriever.drops import Drops, listed, shown
from mcontriever.errors import DataError


def test_every_drop_is_counted_and_the_first_places_are_kept() -> None:
    drops = Drops()
    for line in range(9):
        drops.count("empty", f"file:{line}")
    drops.add("duplicate", 3, ["file:1", "file:2", "file:3"])
    drops.count("malformed", "file:7", "not JSON")
    assert drops.total() == 13
    assert drops.report() == {
        "empty": {"count": 9, "places": [f"file:{line}" for line in range(5)]},
        "duplicate": {"count": 3, "places": ["file:1", "file:2", "file:3"]},
        "malformed": {"count": 1, "places": ["file:7 (not JSON)"]},
    }
    assert listed(drops.counts) == "9 empty, 3 duplicate, 1 malformed"


def test_places_added_in_parts_are_those_of_one_count() -> None:
    whole, parts = Drops(), Drops()
    for part in range(4):
        places = [f"{part}:{line}" for line in range(2)]
        parts.add("empty", 2, places)
        for place in places:
            whole.count("empty", place)
    assert parts.report() == whole.report()


def test_strict_stops_at_the_first_drop_with_its_place() -> None:
    with pytest.raises(DataError, match=r"^no positive: id 7\n  where: file:3\n  fix: fix the example$"):
        Drops(strict_fix="fix the example").count("no positive", "file:3", "id 7")


def test_the_first_names_are_shown() -> None:
    assert shown("abc") == "a, b, c"
    assert shown("abcdef") == "a, b, c, d, e ..."
