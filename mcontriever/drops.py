"""What was dropped: every drop is counted under its reason, with the first places where it happened."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mcontriever.errors import DataError

SHOWN_PLACES = 5


class Drops:
    """Counts and first places by reason. With `strict_fix`, the first drop is a DataError with this advice."""

    def __init__(self, *, strict_fix: str | None = None) -> None:
        self.strict_fix = strict_fix
        self.counts: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}

    def count(self, reason: str, place: str, detail: str = "") -> None:
        if self.strict_fix is not None:
            raise DataError(f"{reason}{f': {detail}' if detail else ''}", where=place, fix=self.strict_fix)
        self.add(reason, 1, (f"{place} ({detail})" if detail else place,))

    def add(self, reason: str, number: int, places: Iterable[str]) -> None:
        """So many drops at once, of which the first places are known."""
        self.counts[reason] += number
        known = self.places.setdefault(reason, [])
        known.extend(place for place, _ in zip(places, range(SHOWN_PLACES - len(known)), strict=False))

    def total(self) -> int:
        return self.counts.total()

    def report(self) -> dict[str, dict[str, Any]]:
        """{reason: {count, places}}, the most frequent reason first, as manifests store it."""
        return {reason: {"count": count, "places": self.places[reason]} for reason, count in self.counts.most_common()}


def listed(counts: Mapping[str, int]) -> str:
    """Counts by reason in one line: "3 empty, 1 too_short"."""
    return ", ".join(f"{number:,} {reason}" for reason, number in counts.items())


def shown(names: Iterable[str]) -> str:
    """The first names, and whether there are more."""
    first = [name for name, _ in zip(names, range(SHOWN_PLACES + 1), strict=False)]
    return ", ".join(first[:SHOWN_PLACES]) + (" ..." if len(first) > SHOWN_PLACES else "")
