"""hit_table.py: what a terminal receives, with right-to-left text in its place."""

import io

from rich.console import Console

from mcontriever.retrieval.hit_table import is_right_to_left, show_hits
from mcontriever.texts.documents import Hit


def shown(hits: list[Hit], explain: bool = False) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    show_hits(hits, explain, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_direction_is_that_of_the_first_letter() -> None:
    assert is_right_to_left("(1) ينبع from")
    assert is_right_to_left("שלום")
    assert not is_right_to_left("from ينبع")
    assert not is_right_to_left("123 ...")
    assert not is_right_to_left("")


def test_each_line_of_an_arabic_cell_is_isolated_and_starts_at_the_right() -> None:
    hits = [
        Hit("a", "ينبع النهر من التلال ويصل إلى البحر بعد رحلة طويلة. " * 3, "النهر", "ar", score=0.91234, rank=1),
        Hit("b", "The river rises in the hills.", "River", "en", score=0.5, rank=2),
    ]
    lines = shown(hits).splitlines()
    for line in lines[2:]:
        letters = any("\u0600" < character < "\u0700" for character in line)
        assert line.count("\u2068") == line.count("\u2069")
        assert (line.count("\u2068") > 0) == letters
    arabic = next(line for line in lines if "ينبع" in line)
    english = next(line for line in lines if "rises" in line)
    assert arabic.rstrip().endswith("\u2069")
    assert english[english.index("The river") - 1] == " "
    assert "0.9123" in arabic
    assert " en " in english


def test_why_a_hit_is_where_it_is() -> None:
    parts = {"dense": 0.5, "dense_rank": 3, "bm25": 7.25, "bm25_rank": 1, "fused": 0.0321}
    text = shown([Hit("a", "text", "", "en", score=0.0321, rank=1, parts=parts)], explain=True)
    for expected in ("dense 0.5 (rank 3)", "bm25 7.25 (rank 1)", "fused 0.0321"):
        assert expected in text


def test_long_texts_are_cut_and_nothing_found_is_said() -> None:
    assert "word word…" in shown([Hit("a", "word " * 500, score=1.0, rank=1)])
    assert shown([]) == "nothing found\n"
