"""Every verb that writes, where nothing may be written and on a disk that is full: told, and nothing half-written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.attempt import attempt, content
from tests.attack.damage import ANY_FILE
from tests.attack.rights import without_right_to_write
from tests.attack.test_options import files_of_at_most
from tests.sentences_to_mine import write_smallest_mining
from tests.training.tiny_runs import tiny_values, write_config

Words = Callable[[Path, Path], tuple[object, ...]]
# verb -> the command, from a folder with a copy of the store and the folder with all that is whole
WRITERS: dict[str, Words] = {
    "embed": lambda place, whole: (
        *("embed", whole / "corpus.jsonl", "--model", whole / "model", "--output", place / "out"),
    ),
    "append": lambda place, whole: ("embed", place.parent / "more.jsonl", "--append", "--output", place / "store"),
    "replace": lambda place, whole: ("embed", whole / "corpus.jsonl", "--replace", "--output", place / "store"),
    "delete": lambda place, whole: ("delete", place / "store", "d5"),
    "compact": lambda place, whole: ("delete", place / "store", "--compact"),
    "index": lambda place, whole: ("index", place / "store", "--kind", "flat"),
    "lexical index": lambda place, whole: ("index", place / "store", "--kind", "bm25", "--terms", "subwords"),
    "repair": lambda place, whole: ("verify", place / "broken", "--repair"),
    "export": lambda place, whole: ("export", whole / "model", "--output", place / "out"),
    "trim": lambda place, whole: ("trim", whole / "model", "--layers", 0, "--output", place / "out"),
    "tokenizer": lambda place, whole: (
        *("tokenizer", whole / "recipe.yaml", "--vocabulary", 200, "--output", place / "out"),
    ),
    "prepare": lambda place, whole: (
        *("prepare", whole / "recipe.yaml", "--tokenizer", whole / "tokenizer", "--workers", 1),
        *("--output", place / "out"),
    ),
    "train": lambda place, whole: ("train", "--config", place.parent / "train.yaml"),
    "mine": lambda place, whole: ("mine", "--config", place.parent / "mine.yaml"),
    "run": lambda place, whole: ("run", place.parent / "plan.yaml"),
    "plot": lambda place, whole: ("plot", whole / "run", "--output", place / "out.png"),
}


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """place/ with a store, and a damaged one; beside it, what the commands read."""
    place = tmp_path / "place"
    shutil.copytree(whole / "store", place / "store")
    shutil.copytree(whole / "store", place / "broken")
    ANY_FILE["noise"](place / "broken" / "vectors-00001.npy")
    (tmp_path / "more.jsonl").write_text('{"id": "new", "text": "rain", "language": "en"}\n')
    write_config(tmp_path / "train.yaml", tiny_values(place / "out", whole / "tokens", whole / "tokenizer"))
    searcher = {"kind": "dense", "negatives": 1, "last_rank": 2}
    write_smallest_mining(tmp_path, model=str(whole / "model"), searchers=[searcher], output=str(place / "out"))
    embed = ["embed", str(whole / "corpus.jsonl"), "--model", "bm25", "--output", str(place / "out")]
    plan = {"output": str(place / "plan"), "stages": [{"command": embed}]}
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    return place


@pytest.mark.parametrize("verb", WRITERS)
def test_no_right_to_write(whole: Path, place: Path, verb: str) -> None:
    before = content(place)
    with without_right_to_write(place):
        outcome = attempt(*WRITERS[verb](place, whole))
    outcome.require_told()
    assert "no permission to write" in outcome.err
    assert content(place) == before


@pytest.mark.parametrize("verb", sorted(WRITERS.keys() - {"delete"}))  # what it writes is small
def test_a_full_disk(whole: Path, place: Path, verb: str) -> None:
    before = content(place)
    words = WRITERS[verb](place, whole)
    with files_of_at_most(100):
        outcome = attempt(*words)
    outcome.require_told()
    assert not list(place.rglob(".partial-*"))
    after = content(place)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_what_only_reads_needs_no_right_to_write(whole: Path, place: Path, mode: str) -> None:
    """What searches make beside a store is there after the first one."""
    assert attempt("search", place / "store", "rain", "--mode", mode).code == 0
    with without_right_to_write(place):
        for words in (("search", place / "store", "rain", "--mode", mode), ("verify", place / "store")):
            outcome = attempt(*words)
            assert outcome.code == 0, outcome.explained()
