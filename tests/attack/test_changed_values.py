"""Every value of every manifest, state and setting made an odd one: told, or without any effect on other folders."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attack.attempt import attempt, content
from tests.attack.damage import ODD_VALUES, places_in, with_value
from tests.attack.test_damaged_files import VERBS, readers

pytestmark = pytest.mark.long(33)

FILES = {
    "store": (
        *("manifest.json", "indexes/flat/manifest.json", "indexes/bm25-words/manifest.json"),
        *("indexes/language-statistics/manifest.json",),
    ),
    "words": ("indexes/bm25-words/params.index.json",),
    "tokens": ("manifest.json",),
    "model": (
        *("config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"),
        *("config_sentence_transformers.json", "tokenizer_config.json"),
    ),
    "bag": ("config.json",),
    "run": ("checkpoints/step-00000004/state.json",),
}
VALUES_PER_PLACE = 1


def test_every_value_of_every_file(whole: Path, copy: Callable[[str, str], Path], tmp_path: Path) -> None:
    """One test for all of them, because a file's keys are known only when it has been made."""
    tried = 0
    for victim, file, place, name in cases(whole):
        broken, changed = tmp_path / "copy" / victim, tmp_path / "copy" / victim / file
        if broken.exists():  # no verb has changed it, so that it serves again
            replaced(changed, whole / victim / file, shutil.copy2)
        else:
            copy(victim, file)
        with_value(changed, place, ODD_VALUES[name] if name != "absent" else ...)
        before = content(broken)
        verbs = readers(victim, file)
        verb = verbs[tried % len(verbs)]
        where = f"{victim}/{file}: {'.'.join(map(str, place))} is {name}, for {verb}"
        try:
            outcome = attempt(*VERBS[victim][verb](broken, whole))
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        outcome.require_clean()
        after = content(broken)
        assert outcome.code in (0, 2), f"{where}\n{outcome.explained()}"
        if outcome.code:
            assert outcome.told(), f"{where}\n{outcome.explained()}"
            assert after == before, where
            assert not list(tmp_path.glob("out*")), where
        remove(*tmp_path.glob("out*"))
        if after == before:
            replaced(changed, whole / victim / file, os.link)
        else:
            remove(broken)
        tried += 1
    assert tried > 250


def cases(whole: Path) -> Iterator[tuple[str, str, tuple[Any, ...], str]]:
    names = [*ODD_VALUES, "absent"]
    number = 0
    for victim, files in FILES.items():
        for file in files:
            for place in places_in(json.loads((whole / victim / file).read_text())):
                for _ in range(VALUES_PER_PLACE):
                    yield victim, file, place, names[number % len(names)]
                    number += 1


def replaced(file: Path, whole: Path, put: Callable[[Path, Path], object]) -> None:
    file.unlink()
    put(whole, file)


def remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
