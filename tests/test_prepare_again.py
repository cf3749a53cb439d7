"""prepare.py over a folder that is there: the same run changes nothing, another one is refused; locks."""

from pathlib import Path
from typing import Any

import pytest

from mcontriever import prepare
from mcontriever.disk import FolderLock
from mcontriever.errors import StoreError
from tests.small_recipes import contents, document, jsonl, recipe_of, stored_documents, write_lines


@pytest.fixture
def prepared(tmp_path: Path, tiny_tokenizer_dir: Path) -> tuple[Path, Path]:
    path = write_lines(tmp_path / "a.jsonl", [document(f"Text number {number}.") for number in range(9)])
    prepare.run(recipe_of(jsonl(path)), tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    return path, tmp_path / "out"


def test_a_second_run_changes_nothing(prepared: tuple[Path, Path], tiny_tokenizer_dir: Path) -> None:
    path, out = prepared
    before = {name: (out / name).stat().st_mtime_ns for name in contents(out) if name != ".lock"}
    described = {"licence": "another", "description": "words", "expected": {"documents": 9}}
    prepare.run(recipe_of(jsonl(path), **described), out, str(tiny_tokenizer_dir), workers=1)
    assert before == {name: (out / name).stat().st_mtime_ns for name in contents(out) if name != ".lock"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalisation": "basic"}, "recipe.normalisation: none before, basic now"),
        ({"duplicates": {"exact": False}}, "recipe.duplicates.exact: True before, False now"),
        ({"filters": {"min_tokens": 3}}, "recipe.sources.0.filters.min_tokens: 1 before, 3 now"),
    ],
)
def test_a_changed_recipe_is_refused_until_restart(
    prepared: tuple[Path, Path], tiny_tokenizer_dir: Path, change: dict[str, Any], message: str
) -> None:
    path, out = prepared
    of_source = {name: value for name, value in change.items() if name == "filters"}
    of_recipe = {name: value for name, value in change.items() if name != "filters"}
    changed = recipe_of(jsonl(path, **of_source), **of_recipe)
    with pytest.raises(StoreError) as raised:
        prepare.run(changed, out, str(tiny_tokenizer_dir), workers=1)
    assert message in str(raised.value)
    assert "start again with --restart" in str(raised.value)
    prepare.run(changed, out, str(tiny_tokenizer_dir), workers=1, restart=True)
    prepare.run(changed, out, str(tiny_tokenizer_dir), workers=1)


def test_changed_sources_and_tokenizers_are_refused(
    tmp_path: Path, prepared: tuple[Path, Path], tiny_tokenizer_dir: Path, sentences: dict[str, list[str]]
) -> None:
    from mcontriever.preparation.vocabulary import train_tokenizer

    path, out = prepared
    other = train_tokenizer(sentences, tmp_path / "other", 180)
    with pytest.raises(StoreError, match=r"tokenizer\.fingerprint: \w+ before, \w+ now"):
        prepare.run(recipe_of(jsonl(path)), out, str(other), workers=1)
    before = stored_documents(out, "en")
    prepare.run(recipe_of(jsonl(path)), out, str(other), workers=1, restart=True)
    assert stored_documents(out, "en") != before
    write_lines(path, [document("Changed.")])
    with pytest.raises(StoreError, match=r"sources\..*a\.jsonl: \d+ before, \d+ now"):
        prepare.run(recipe_of(jsonl(path)), out, str(tiny_tokenizer_dir), workers=1)


def test_two_runs_into_one_folder_and_foreign_folders_are_refused(
    tmp_path: Path, prepared: tuple[Path, Path], tiny_tokenizer_dir: Path
) -> None:
    path, out = prepared
    with FolderLock(out), pytest.raises(StoreError, match=r"another process \(pid \d+\) is writing here"):
        prepare.run(recipe_of(jsonl(path)), out, str(tiny_tokenizer_dir), workers=1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("precious")
    (foreign / "shards").mkdir()
    for restart in (False, True):
        with pytest.raises(StoreError, match=r"is not a folder of token shards: it holds shards, thesis\.txt"):
            prepare.run(recipe_of(jsonl(path)), foreign, str(tiny_tokenizer_dir), workers=1, restart=restart)
    assert {path.name for path in foreign.iterdir()} == {"thesis.txt", "shards"}
