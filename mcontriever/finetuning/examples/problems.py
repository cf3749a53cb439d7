"""What is wrong with examples: every drop counted under its reason, with the first places; `strict` stops at one."""

from collections import Counter, defaultdict

from mcontriever.errors import DataError

SHOWN_PLACES = 5


class Problems:
    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.counts: Counter[str] = Counter()
        self.places: defaultdict[str, list[str]] = defaultdict(list)

    def count(self, reason: str, place: str, detail: str = "") -> None:
        if self.strict:
            raise DataError(
                f"{reason}{f': {detail}' if detail else ''}",
                where=place,
                fix="mend the example, or set data.examples.strict=false to drop such examples and count them",
            )
        self.counts[reason] += 1
        if len(self.places[reason]) < SHOWN_PLACES:
            self.places[reason].append(f"{place}{f' ({detail})' if detail else ''}")

    def report(self) -> dict[str, dict[str, object]]:
        """{reason: {count, places}}, as manifests store it."""
        return {reason: {"count": count, "places": self.places[reason]} for reason, count in self.counts.most_common()}
