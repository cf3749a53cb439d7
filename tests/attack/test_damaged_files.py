"""Every kind of damage to every file of ours, met by every verb that reads it: told, or without any effect."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attack.attempt import attempt, content
from tests.attack.damage import ANY_FILE, ODD_JSON, odd_json

Words = Callable[[Path, Path], tuple[object, ...]]
# victim -> verb -> the command, from the broken folder and the folder with all that is whole
VERBS: dict[str, dict[str, Words]] = {
    "store": {
        "search": lambda broken, whole: ("search", broken, "rain", "-k", 3, "--json"),
        "hybrid": lambda broken, whole: ("search", broken, "rain", "-k", 3, "--json", "--mode", "hybrid"),
        "verify": lambda broken, whole: ("verify", broken),
        "delete": lambda broken, whole: ("delete", broken, "d5", "--compact"),
        "append": lambda broken, whole: ("embed", whole / "corpus.jsonl", "--output", broken, "--replace"),
        "index": lambda broken, whole: ("index", broken, "--kind", "flat"),
    },
    "words": {
        "search": lambda broken, whole: ("search", broken, "rain", "-k", 3, "--json"),
        "verify": lambda broken, whole: ("verify", broken),
        "delete": lambda broken, whole: ("delete", broken, "d5", "--compact"),
    },
    "tokens": {
        "verify": lambda broken, whole: ("verify", broken),
        "trim": lambda broken, whole: ("trim", whole / "bag", "--text", broken, "--samples", 2, "--output", "out"),
    },
    "model": {
        "embed": lambda broken, whole: ("embed", whole / "corpus.jsonl", "--model", broken, "--output", "out"),
        "export": lambda broken, whole: ("export", broken, "--output", "out"),
        "search": lambda broken, whole: ("search", whole / "encoded", "rain", "--model", broken, "--json"),
        "trim": lambda broken, whole: ("trim", broken, "--layers", 0, "--output", "out"),
        "verify": lambda broken, whole: ("verify", broken),
    },
    "bag": {
        "embed": lambda broken, whole: ("embed", whole / "corpus.jsonl", "--model", broken, "--output", "out"),
    },
    "tokenizer": {
        "prepare": lambda broken, whole: (
            *("prepare", whole / "recipe.yaml", "--output", "out", "--tokenizer", broken, "--workers", 1),
        ),
    },
    "run": {
        "export": lambda broken, whole: ("export", broken, "--output", "out"),
        "plot": lambda broken, whole: ("plot", broken, "--output", "out.png"),
    },
}
FILES = {
    "store": (
        *("manifest.json", "vectors-00001.npy", "documents-00000.parquet", "deleted-00002.npy"),
        *("indexes/flat/manifest.json", "indexes/flat/index.faiss"),
        *("indexes/bm25-words/manifest.json", "indexes/bm25-words/vocab.index.json"),
        *("indexes/language-statistics/manifest.json", "indexes/language-statistics/counts.npy"),
    ),
    "words": ("manifest.json", "documents-00001.parquet", "indexes/bm25-words/indptr.csc.index.npy"),
    "tokens": ("manifest.json", "shards/00000/sw.tokens.npy", "shards/00000/sw.offsets.npy"),
    "model": (
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "modules.json"),
        *("1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
        "checksums.json",
    ),
    "bag": ("config.json", "model.safetensors", "tokenizer.json", "modules.json"),
    "tokenizer": ("tokenizer.json", "tokenizer_config.json"),
    "run": ("metrics.jsonl", "scores.jsonl", "checkpoints/step-00000004/state.json"),
}
UNREAD = {("run", "plot"): ("checkpoints/step-00000004/state.json",)}  # no turn, as no damage can have an effect
# A file with a checksum in checksums.json or in its index's manifest is compared before anything is parsed, and other
# content of any kind fails at the same comparison. So such files meet the kinds that another branch may notice: those
# that stop the reading, other sizes, a byte at each edge and one inside, and code.
COMPARED = ("model.safetensors", "tokenizer.json", "index.faiss", "vocab.index.json", "counts.npy", ".csc.index.npy")
KINDS_FOR_COMPARED = (
    *("missing", "empty", "a folder", "a dangling link", "cut", "first byte", "middle byte", "last byte", "pickled"),
)
ANSWERS = ("search", "hybrid")  # verbs that print what they read
DAMAGES = {**ANY_FILE, **{f"JSON: {name}": odd_json(name) for name in ODD_JSON}}


def readers(victim: str, file: str) -> list[str]:
    """The verbs that read this file."""
    return [verb for verb in VERBS[victim] if file not in UNREAD.get((victim, verb), ())]


def kinds_for(victim: str, file: str) -> list[str]:
    if victim != "tokenizer" and file.endswith(COMPARED):  # a tokenizer alone has no checksums
        return [*KINDS_FOR_COMPARED]
    return [name for name in DAMAGES if file.endswith(("json", "jsonl")) or not name.startswith("JSON")]


def cases() -> list[tuple[str, str, str, str]]:
    """Each damage to each file, the verbs that read it taking turns; a missing and a cut file for every verb."""
    found = []
    for victim, verbs in VERBS.items():
        for place, file in enumerate(FILES[victim]):
            for number, damage in enumerate(kinds_for(victim, file)):
                turns = readers(victim, file)
                turn = turns[(place + number) % len(turns)]
                found += [(victim, turn, file, damage)]
                found += [
                    (victim, verb, file, damage) for verb in verbs if damage in ("missing", "cut") and verb != turn
                ]
    return found


@functools.cache
def answer(words: tuple[object, ...]) -> list[dict[str, Any]]:
    """The hits where nothing is broken. Without its index a store is searched row by row, which rounds otherwise."""
    found = hits(attempt(*words).out)
    assert found
    return [
        {name: pytest.approx(value, abs=1e-5) if isinstance(value, float) else value for name, value in hit.items()}
        for hit in found
    ]


def hits(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.parametrize(("victim", "verb", "file", "damage"), cases())
def test_damage_is_told_or_without_effect(
    whole: Path, copy: Callable[[str, str], Path], tmp_path: Path, victim: str, verb: str, file: str, damage: str
) -> None:
    broken = copy(victim, file)
    DAMAGES[damage](broken / file)
    before = content(broken)
    outcome = attempt(*VERBS[victim][verb](broken, whole))
    outcome.require_clean()
    if outcome.code == 0 and verb in ANSWERS:
        assert hits(outcome.out) == answer(VERBS[victim][verb](whole / victim, whole)), "it changed the answer"
    assert outcome.code == 2 or not file.endswith(".safetensors"), "wrong weights were taken for right ones"
    assert not list(tmp_path.rglob("RAN")), "a file ran code"
    if outcome.code:
        outcome.require_told()
        assert content(broken) == before
        assert not list(tmp_path.glob("out*"))
    assert not list(tmp_path.rglob(".partial-*"))
