"""prepare.py: totals, tokens and reasons against a plain reading of the same lines."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from mcontriever import prepare, tokenizer
from mcontriever.config import PrepareRecipe
from mcontriever.shipped import ATLAS
from mcontriever.texts.documents import read_documents
from mcontriever.token_shards import TokenStore
from tests.conftest import RunCli
from tests.small_recipes import contents, document, jsonl, recipe_of, stored_documents, write_lines


@pytest.fixture(scope="module")
def atlas_recipe() -> PrepareRecipe:
    return recipe_of(
        {
            "reader": "jsonl",
            "paths": ["package://atlas/train/corpus.jsonl"],
            "languages": ["en", "ar", "sw", "fr", "hi", "zh"],
        }
    )


def test_the_atlas_becomes_its_own_tokens(
    tmp_path: Path, atlas_recipe: PrepareRecipe, tiny_tokenizer_dir: Path
) -> None:
    report = prepare.run(atlas_recipe, tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    theirs = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    by_language: dict[str, list[str]] = {}
    for passage in read_documents(ATLAS / "train" / "corpus.jsonl"):
        by_language.setdefault(passage.language, []).append(passage.text)
    assert set(report["languages"]) == set(by_language)
    for language, texts in by_language.items():
        row = report["languages"][language]
        expected = [theirs(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
        assert stored_documents(tmp_path / "out", language) == expected
        assert (row["read"], row["kept"], row["dropped"]) == (len(texts), len(texts), {})
        assert row["tokens"] == sum(map(len, expected))
        assert row["windows"] == sum(max(1, len(ids) // 256) for ids in expected)
        assert row["text_bytes"] == sum(len(text.encode()) for text in texts)
        files = list((tmp_path / "out" / "shards").rglob(f"{language}.*.npy"))
        assert row["bytes"] == sum(path.stat().st_size for path in files)
    assert report["total"]["read"] == sum(map(len, by_language.values()))
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    store = TokenStore.open(tmp_path / "out")
    store.verify()
    assert store.window_counts == {language: report["languages"][language]["windows"] for language in store.languages}
    assert np.load(tmp_path / "out" / "shards" / "00000" / "en.tokens.npy").dtype == np.uint16


def test_every_drop_has_its_reason(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    fine = {"raw_content": "A text that is long enough.", "language": "en", "language_score": 0.9}
    fine |= {"perplexity": 100.0, "bucket": "head"}
    lines = [
        fine,
        fine,
        {**fine, "raw_content": "Another text of its own.", "language": "xx"},
        {**fine, "language_score": 0.1},
        {**fine, "bucket": "tail"},
        {**fine, "perplexity": 900.0},
        {**fine, "raw_content": "  \n"},
        {**fine, "raw_content": "short"},
        {**fine, "raw_content": "long " * 100},
        {**fine, "raw_content": "a            b"},
        {**fine, "raw_content": "The last text is kept."},
    ]
    path = write_lines(tmp_path / "en_head_0000.json.gz", lines)
    filters = {
        "min_language_score": 0.5,
        "buckets": ["head"],
        "max_perplexity": 500,
        "min_characters": 8,
        "max_characters": 400,
        "min_tokens": 6,
    }
    source = {"reader": "ccnet", "paths": [str(tmp_path / "{language}_{bucket}_*.json.gz")], "languages": ["en"]}
    recipe = recipe_of({**source, "buckets": ["head"], "filters": filters})
    report = prepare.run(recipe, tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    row = report["languages"]["en"]
    assert (row["read"], row["kept"]) == (11, 2)
    assert row["dropped"] == {
        "bucket": 1,
        "duplicate": 1,
        "empty": 1,
        "language_score": 1,
        "perplexity": 1,
        "too_few_tokens": 1,
        "too_long": 1,
        "too_short": 1,
        "wrong_language": 1,
    }
    assert report["places"]["en"]["duplicate"] == [f"{path}:2"]
    assert report["places"]["en"]["wrong_language"] == [f"{path}:3"]


def test_special_tokens_in_a_text_are_plain_characters(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    texts = ["HTML has <s> and </s>,<pad> and <mask> too.", "Wide: ＜s＞."]
    path = write_lines(tmp_path / "a.jsonl", [document(text) for text in texts])
    prepare.run(recipe_of(jsonl(path)), tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    theirs = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    apart = ["HTML has < s> and < /s>,< pad> and < mask> too.", "Wide: < s>."]
    stored = stored_documents(tmp_path / "out", "en")
    assert stored == [theirs(text, add_special_tokens=False)["input_ids"] for text in apart]
    assert not {0, 1, 2, theirs.mask_token_id} & {token for ids in stored for token in ids}


def test_a_very_long_text_is_cut_at_white_space_without_a_trace(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    text = "Mto unaanzia vilimani na kufika baharini.\n" * 8000
    path = write_lines(tmp_path / "a.jsonl", [document(text, "sw"), document("x" * 600_000)])
    prepare.run(recipe_of(jsonl(path)), tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    theirs = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    expected = theirs(text, add_special_tokens=False, verbose=False)["input_ids"]
    assert stored_documents(tmp_path / "out", "sw") == [expected]


def test_a_mixed_file_goes_to_all_of_its_languages(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    paths = [
        write_lines(
            tmp_path / f"{part}.jsonl",
            [document(f"{language} {part} {n}", language) for n in range(5) for language in ("en", "sw", "fr")],
        )
        for part in "ab"
    ]
    report = prepare.run(recipe_of(jsonl(*paths)), tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    assert {language: row["kept"] for language, row in report["languages"].items()} == {"en": 10, "sw": 10, "other": 0}
    assert report["languages"]["other"]["dropped"] == {"wrong_language": 10}
    files = sorted(path.name for path in (tmp_path / "out" / "shards" / "00001").iterdir())
    assert files == ["en.offsets.npy", "en.tokens.npy", "record.json", "sw.offsets.npy", "sw.tokens.npy"]


def test_the_first_of_equal_texts_stays_whoever_is_faster(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    random = np.random.default_rng(3)
    texts = [f"The text of number {number} is like no other." for number in range(60)]
    paths, lines = [], []
    for part in range(6):
        chosen = [texts[index] for index in random.integers(0, 60, size=[400, 2, 30, 1, 60, 9][part])]
        lines.append([document(text, ["en", "sw"][index % 2]) for index, text in enumerate(chosen)])
        paths.append(write_lines(tmp_path / f"{part}.jsonl.gz", lines[-1]))
    alone, together = tmp_path / "alone", tmp_path / "together"
    report = prepare.run(recipe_of(jsonl(*paths)), alone, str(tiny_tokenizer_dir), workers=1)
    prepare.run(recipe_of(jsonl(*paths)), together, str(tiny_tokenizer_dir), workers=2)
    assert contents(alone) == {**contents(together), ".lock": contents(alone)[".lock"]}
    seen: set[str] = set()
    kept, expected_kept, expected_dropped = [], Counter[str](), Counter[str]()
    for line in [line for part in lines for line in part]:
        (expected_dropped if line["text"] in seen else expected_kept)[line["language"]] += 1
        if line["text"] not in seen:
            kept.append(line)
        seen.add(line["text"])
    theirs = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    for language in ("en", "sw"):
        assert report["languages"][language]["kept"] == expected_kept[language]
        assert report["languages"][language]["dropped"] == {"duplicate": expected_dropped[language]}
        assert stored_documents(alone, language) == [
            theirs(line["text"], add_special_tokens=False)["input_ids"] for line in kept if line["language"] == language
        ]


def test_duplicates_stay_when_the_recipe_says_so_and_near_ones_go(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    text = " ".join(f"word{number}" for number in range(200))
    path = write_lines(
        tmp_path / "a.jsonl", [document(text), document(text), document(text + " more"), document("other")]
    )
    expected = {
        (False, False): {},
        (True, False): {"duplicate": 1},
        (True, True): {"duplicate": 1, "near_duplicate": 1},
        (False, True): {"near_duplicate": 2},
    }
    for (exact, near), dropped in expected.items():
        recipe = recipe_of(jsonl(path), duplicates={"exact": exact, "near": near})
        report = prepare.run(recipe, tmp_path / f"{exact}-{near}", str(tiny_tokenizer_dir), workers=1)
        assert report["languages"]["en"]["dropped"] == dropped


def test_titles_and_normalisation_come_before_the_tokenizer(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "“Mto”", "title": "Nile", "language": "sw"}])
    recipe = recipe_of(jsonl(path, titles=True), normalisation="basic")
    prepare.run(recipe, tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    theirs = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    assert stored_documents(tmp_path / "out", "sw") == [theirs('Nile\n"Mto"', add_special_tokens=False)["input_ids"]]


def test_a_hub_folder_with_the_hubs_own_language_names(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    for name, text in (("swh_Latn", "Mto Nile ni mrefu."), ("arb_Arab", "نهر النيل طويل.")):
        folder = tmp_path / "hub" / "data" / name
        folder.mkdir(parents=True)
        for part in range(2):
            write_lines(folder / f"train-{part}.jsonl", [{"text": f"{text} {part}", "url": "x"}])
    configurations = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: data/{name}/*.jsonl\n"
        for name in ("swh_Latn", "arb_Arab")
    )
    (tmp_path / "hub" / "README.md").write_text(f"---\nconfigs:\n{configurations}---\n")
    source = {"reader": "hub", "paths": [str(tmp_path / "hub")], "configuration": "{language}"}
    recipe = recipe_of({**source, "languages": {"sw": "swh_Latn", "ar": "arb_Arab"}, "filters": {"min_tokens": 1}})
    report = prepare.run(recipe, tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    assert {language: row["kept"] for language, row in report["languages"].items()} == {"ar": 2, "sw": 2}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [Path(entry["source"]).parts[-3:] for entry in manifest["shards"]] == [
        (name, "train", f"part-{part}-of-2") for name in ("swh_Latn", "arb_Arab") for part in range(2)
    ]


def test_the_command_line(tmp_path: Path, tiny_tokenizer_dir: Path, cli: RunCli) -> None:
    done = cli("prepare", "atlas", "--output", tmp_path / "out", "--tokenizer", tiny_tokenizer_dir)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "estimate: " in done.stderr
    assert "│ all" in done.stderr
    changes = ("--set", "normalisation=basic", "--set", "sources.0.languages=[sw]")
    printed = cli("prepare", "atlas", "--output", "x", "--tokenizer", "y", *changes, "--print-config")
    assert "normalisation: basic" in printed.stdout
    assert "languages:\n  - sw\n  buckets" in printed.stdout
    wrong = cli("prepare", "atlas", "--output", "x", "--tokenizer", "y", "--set", "sources.1.titles=true")
    assert wrong.returncode == 2
    assert "--set sources.1.titles: 1 is not an index of a list of 1" in wrong.stderr


def test_a_tokenizer_learns_from_a_recipe(tmp_path: Path, atlas_recipe: PrepareRecipe) -> None:
    folder = tokenizer.run(atlas_recipe, tmp_path / "v", vocabulary=900, max_characters=40_000)
    made = AutoTokenizer.from_pretrained(folder)
    assert len(made) == 900
    pieces = made.convert_ids_to_tokens(list(range(900)))
    for letters in ("the", "\u0627\u0644", "wa"):
        assert any(piece.lstrip("▁") == letters for piece in pieces), letters
