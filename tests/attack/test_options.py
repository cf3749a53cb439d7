"""Odd values of every verb's options, and outputs that cannot be written: told, and nothing of the user's is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.attempt import attempt
from tests.file_size_limit import files_of_at_most

Words = Callable[[Path], tuple[object, ...]]
OUTPUTS: dict[str, Words] = {
    "embed": lambda whole: ("embed", whole / "corpus.jsonl", "--model", "bm25", "--output"),
    "export": lambda whole: ("export", whole / "model", "--output"),
    "prepare": lambda whole: (
        *("prepare", whole / "recipe.yaml", "--tokenizer", whole / "tokenizer", "--workers", 1, "--output"),
    ),
    "tokenizer": lambda whole: ("tokenizer", whole / "recipe.yaml", "--vocabulary", 200, "--output"),
    "trim": lambda whole: ("trim", whole / "model", "--layers", 0, "--output"),
}


@pytest.mark.parametrize("verb", OUTPUTS)
@pytest.mark.parametrize("where", ["a file", "strangers", "a link to nothing", "below a file", "a device"])
def test_outputs(whole: Path, tmp_path: Path, verb: str, where: str) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "thesis.txt").write_text("precious")
    (tmp_path / "link").symlink_to("nowhere")
    place = {
        "a file": tmp_path / "file",
        "strangers": tmp_path / "strangers",
        "a link to nothing": tmp_path / "link",
        "below a file": tmp_path / "file" / "out",
        "a device": Path("/dev/null"),
    }[where]
    before = sorted(tmp_path.rglob("*"))
    attempt(*OUTPUTS[verb](whole), place).require_told()
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("verb", OUTPUTS)
def test_a_full_disk(whole: Path, tmp_path: Path, verb: str) -> None:
    with files_of_at_most(1024):
        outcome = attempt(*OUTPUTS[verb](whole), tmp_path / "out")
    outcome.require_told()
    assert "the file would be larger than may be written here" in outcome.err
    assert not list(tmp_path.rglob(".partial-*"))


ODD_OPTIONS = {
    "no such store": lambda whole: ("search", whole / "nowhere", "rain"),
    "no such index": lambda whole: ("search", whole / "store", "rain", "--index", "zz"),
    "an index elsewhere": lambda whole: ("search", whole / "store", "rain", "--index", "../flat"),
    "a stranger's preference": lambda whole: ("search", whole / "store", "rain", "--prefer", "zz"),
    "no such language": lambda whole: ("search", whole / "store", "rain", "--language", "zz"),
    "no such queries": lambda whole: ("search", whole / "store", "--queries", whole / "nowhere"),
    "no such re-ranker": lambda whole: ("search", whole / "store", "rain", "--rerank", whole / "nowhere"),
    "an encoder as re-ranker": lambda whole: ("search", whole / "store", "rain", "--rerank", whole / "model"),
    "another encoder": lambda whole: ("search", whole / "store", "rain", "--model", whole / "model"),
    "vectors of a store of words": lambda whole: ("search", whole / "words", "rain", "--mode", "dense"),
    "an id that is not there": lambda whole: ("delete", whole / "store", "nobody"),
    "no such ids": lambda whole: ("delete", whole / "store", "--ids-from", whole / "nowhere"),
    "no such kind": lambda whole: ("index", whole / "store", "--kind", "zz"),
    "a model in no place": lambda whole: ("export", whole / "nowhere", "--output", "out"),
    "a store as a model": lambda whole: ("export", whole / "store", "--output", "out"),
    "no such corpus": lambda whole: ("embed", whole / "nowhere.jsonl", "--model", "bm25", "--output", "out"),
    "an unknown scheme": lambda whole: ("embed", "weird://x/a.jsonl", "--model", "bm25", "--output", "out"),
    "no host": lambda whole: ("embed", "http://", "--model", "bm25", "--output", "out"),
    "a password": lambda whole: (
        *("embed", "http://me:secret@127.0.0.1:9/a.jsonl", "--model", "bm25", "--output", "out"),
    ),
    "an unknown device": lambda whole: (
        *("embed", whole / "corpus.jsonl", "--model", whole / "model", "--device", "zz", "--output", "out"),
    ),
    "an unknown precision": lambda whole: (
        *("embed", whole / "corpus.jsonl", "--model", whole / "model", "--precision", "zz", "--output", "out"),
    ),
    "a million processes": lambda whole: (
        *("embed", whole / "corpus.jsonl", "--model", "bm25", "--processes", 10**6, "--output", "out"),
    ),
    "a million workers": lambda whole: (
        *("prepare", whole / "recipe.yaml", "--output", "out", "--tokenizer", whole / "tokenizer"),
        *("--workers", 10**6),
    ),
    "a million servers": lambda whole: ("serve", whole / "store", "--port", 0, "--workers", 10**6),
    "an unknown field": lambda whole: (
        *("embed", whole / "corpus.jsonl", "--model", "bm25", "--fields", "zz=a", "--output", "out"),
    ),
    "layers that are not there": lambda whole: ("trim", whole / "model", "--layers", "0-99", "--output", "out"),
    "layers in words": lambda whole: ("trim", whole / "model", "--layers", "all", "--output", "out"),
    "no run": lambda whole: ("plot", whole / "store"),
    "no kind of picture": lambda whole: ("plot", whole / "run", "--output", "out.zz"),
    "no such recipe": lambda whole: ("prepare", "zz", "--output", "out", "--tokenizer", whole / "tokenizer"),
    "no such tokenizer": lambda whole: (
        *("prepare", whole / "recipe.yaml", "--output", "out", "--tokenizer", whole / "nowhere"),
    ),
}


@pytest.mark.parametrize("name", ODD_OPTIONS)
def test_options(whole: Path, tmp_path: Path, name: str) -> None:
    outcome = attempt(*ODD_OPTIONS[name](whole))
    outcome.require_clean()
    assert outcome.code == 2, outcome.explained()
    assert outcome.err.count("error: ") == 1, outcome.explained()
    assert "\n  fix: " in outcome.err, outcome.explained()
    assert "secret" not in outcome.err
    assert not (tmp_path / "out").exists()
