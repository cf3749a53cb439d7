"""filters.py and normalise.py: every reason on its own, bounds that include their ends, languages by path and word."""

import pytest

from mcontriever.preparation.filters import OTHER, Rules, Tally, language_of
from mcontriever.preparation.normalise import normaliser
from mcontriever.preparation.source_document import SourceDocument


@pytest.mark.parametrize(
    ("rules", "values", "reason"),
    [
        (Rules(), {}, None),
        (Rules(min_language_score=0.5), {"language_score": 0.5}, None),
        (Rules(min_language_score=0.5), {"language_score": 0.49}, "language_score"),
        (Rules(min_language_score=0.5), {}, "language_score"),
        (Rules(buckets=("head", "middle")), {"bucket": "middle"}, None),
        (Rules(buckets=("head",)), {"bucket": "tail"}, "bucket"),
        (Rules(buckets=("head",)), {}, "bucket"),
        (Rules(max_perplexity=300), {"perplexity": 300.0}, None),
        (Rules(max_perplexity=300), {"perplexity": 300.1}, "perplexity"),
        (Rules(min_perplexity=10, max_perplexity=300), {"perplexity": 9.0}, "perplexity"),
        (Rules(min_perplexity=10), {"perplexity": float("nan")}, "perplexity"),
        (Rules(max_perplexity=300), {}, "perplexity"),
    ],
)
def test_what_the_source_says_about_a_document(rules: Rules, values: dict[str, object], reason: str | None) -> None:
    assert rules.reason_against(SourceDocument(line=1, text="text", **values)) == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("abcd", "too_short"),
        ("abcde", None),
        ("abcdefg", None),
        ("abcdefgh", "too_long"),
    ],
)
def test_lengths_in_characters(text: str, reason: str | None) -> None:
    assert Rules(min_characters=5, max_characters=7).reason_against_text(text) == reason


@pytest.mark.parametrize(
    ("word", "path", "languages", "expected"),
    [
        ("sw", None, {"sw": "sw", "ar": "ar"}, ("sw", True)),
        ("en", None, {"sw": "sw", "ar": "ar"}, (OTHER, False)),
        (None, None, {"sw": "sw", "ar": "ar"}, (OTHER, False)),
        (None, None, {"sw": "sw"}, ("sw", True)),
        (None, "sw", {"sw": "sw", "ar": "ar"}, ("sw", True)),
        ("ar", "sw", {"sw": "sw", "ar": "ar"}, ("sw", False)),
        ("swh_Latn", "sw", {"swh_Latn": "sw", "sw": "sw"}, ("sw", True)),
        ("swh_Latn", None, {"swh_Latn": "sw", "sw": "sw"}, ("sw", True)),
        ("fi", None, {}, ("fi", True)),
        ("../../etc", None, {}, (OTHER, False)),
        (None, None, {}, (OTHER, False)),
    ],
)
def test_the_language_of_a_document(
    word: str | None, path: str | None, languages: dict[str, str], expected: tuple[str, bool]
) -> None:
    assert language_of(SourceDocument(line=1, text="text", language=word or ""), path, languages) == expected


def test_a_tally_keeps_all_counts_and_the_first_places() -> None:
    tally = Tally(read=9)
    for line in range(9):
        tally.dropped.count("empty", f"file:{line}")
    assert tally.dropped.counts == {"empty": 9}
    assert tally.dropped.places == {"empty": [f"file:{line}" for line in range(5)]}
    record = tally.to_record()
    assert Tally.of_record(record).to_record() == record


def test_basic_normalisation_evens_out_type_and_keeps_what_spells() -> None:
    basic = normaliser("basic")
    assert basic("“Habari” — ‘njema’…") == "\"Habari\" - 'njema'..."
    assert basic("a\u00a0b\u2009c\t d\r\n\r\n\n e\x07\u00ad\ufeff") == "a b c d\ne"
    persian, hindi = "می\u200cخواهم", "क्\u200dष"
    assert basic(persian) == persian
    assert basic(hindi) == hindi
    assert basic(basic("«x» – y")) == basic("«x» – y")
    assert normaliser("none")("“x” \u00a0") == "“x” \u00a0"
