"""Two columns of JSON lines become pairs; what is dropped is counted, what changed is noticed."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever.errors import ConfigError, DataError
from mcontriever.pretraining.column_pairs import ColumnPairSource, ColumnPairStore

ENGLISH = ["The river rises", "Rain falls", "A small telescope shows four bright moons", "Bakers mix flour"]
SWAHILI = ["Mto unaanzia", "Mvua hunyesha", "Darubini ndogo huonyesha miezi minne", "Mwokaji huchanganya"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    lines = [{"id": n, "en": en, "sw": sw} for n, (en, sw) in enumerate(zip(ENGLISH, SWAHILI, strict=True))]
    lines += [{"en": "alone"}, {"en": "half", "sw": " "}, {"en": 5, "sw": "tano"}]
    with gzip.open(tmp_path / "en-sw.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(line) for line in lines) + "\n\n")
    return tmp_path / "en-sw.jsonl.gz"


def build(path: Path, tokenizer: Any, **changes: Any) -> ColumnPairStore:
    settings = {"columns": ("en", "sw"), "tokenizer": tokenizer, "max_tokens": 20, **changes}
    return ColumnPairStore.build(path.parent / "cache", [str(path)], **settings)


def ids(tokenizer: Any, texts: list[str], max_tokens: int = 20) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False)["input_ids"][:max_tokens] for text in texts]


def test_rows_are_what_the_tokenizer_says_and_drops_are_counted(path: Path, tokenizer: Any) -> None:
    store = build(path, tokenizer)
    assert store.rows(0, np.arange(4)).to_lists() == ids(tokenizer, ENGLISH)
    assert store.rows(1, np.array([2, 0])).to_lists() == ids(tokenizer, [SWAHILI[2], SWAHILI[0]])
    cut = sum(len(row) > 20 for row in ids(tokenizer, ENGLISH + SWAHILI, 1000))
    assert cut > 0
    assert store.counts == {
        "rows kept": 4,
        "rows without one of the columns": 1,
        "rows with an empty column": 2,
        "texts cut": cut,
    }


def test_each_row_comes_once_an_epoch_and_sides_swap(path: Path, tokenizer: Any) -> None:
    source = ColumnPairSource(build(path, tokenizer), languages=(1, 4), swap_probability=0.5, seed=3)
    pairs = source.draw(np.arange(400))
    english, swahili = ids(tokenizer, ENGLISH), ids(tokenizer, SWAHILI)
    orders, swaps = set(), 0
    for sample in range(400):
        row = int(pairs.text_B[sample])
        query, key = pairs.queries.to_lists()[sample], pairs.keys.to_lists()[sample]
        swapped = query == swahili[row]
        assert (query, key) == ((swahili[row], english[row]) if swapped else (english[row], swahili[row]))
        assert pairs.language_B[sample] == (1 if swapped else 4)
        swaps += swapped
    for epoch in pairs.text_B.reshape(100, 4):
        assert sorted(epoch) == [0, 1, 2, 3]
        orders.add(tuple(epoch))
    assert len(orders) > 10
    assert 150 < swaps < 250
    assert source.draw(np.array([250, 7])).queries.to_lists() == [
        pairs.queries.to_lists()[250],
        pairs.queries.to_lists()[7],
    ]


def test_the_same_call_finds_it_again_and_a_changed_file_is_tokenized_anew(path: Path, tokenizer: Any) -> None:
    manifest = build(path, tokenizer).folder / "manifest.json"
    first = manifest.stat().st_mtime_ns
    build(path, tokenizer)
    assert manifest.stat().st_mtime_ns == first
    assert build(path, tokenizer, max_tokens=3).rows(0, np.arange(4)).lengths_N.tolist() == [3] * 4
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(json.dumps({"en": ENGLISH[0], "sw": SWAHILI[0]}))
    assert len(build(path, tokenizer, max_tokens=3)) == 1


def test_bad_files_and_settings_are_refused(path: Path, tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"no pair of texts by \['en', 'fr'\]"):
        build(path, tokenizer, columns=("en", "fr"))
    with pytest.raises(DataError, match="no such file"):
        build(path.parent / "missing.jsonl", tokenizer)
    bad = path.parent / "bad.jsonl"
    bad.write_text('{"en": "a", "sw": "b"}\n{"en"\n', encoding="utf-8")
    with pytest.raises(DataError, match="not a JSON line") as error:
        build(bad, tokenizer)
    assert "bad.jsonl:2" in str(error.value)
    with pytest.raises(ConfigError, match="swap_probability 3 is not between 0 and 1"):
        ColumnPairSource(build(path, tokenizer), languages=(0, 1), swap_probability=3, seed=0)
    assert os.listdir(path.parent / "cache")


def test_lines_of_documents_that_exist_in_two_languages(tmp_path: Path, tokenizer: Any) -> None:
    texts = {
        "en": {"guide/en/one": "The river rises here\nStop\nRain falls in spring", "guide/en/two": "One line only"},
        "sw": {
            "guide/sw/one": "Mto unaanzia hapa\nSimama\nMvua hunyesha masika",
            "guide/sw/two": "Mstari mmoja\nna mwingine",
            "guide/sw/three": "Haipo kwa Kiingereza",
            "other-sw": "Kitambulisho kingine",
        },
    }
    paths = {}
    for language, documents in texts.items():
        lines = [json.dumps({"id": id, "text": text, "language": language}) for id, text in documents.items()]
        (tmp_path / f"{language}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        paths[language] = [str(tmp_path / f"{language}.jsonl")]
    settings: dict[str, Any] = {"language": "sw", "tokenizer": tokenizer, "max_tokens": 20}
    same_part = r"(guide)/[^/]+/(.+)"
    store = ColumnPairStore.build_from_documents(tmp_path / "cache", paths, same_part=same_part, **settings)
    assert store.rows(0, np.arange(2)).to_lists() == ids(tokenizer, ["The river rises here", "Rain falls in spring"])
    assert store.rows(1, np.arange(2)).to_lists() == ids(tokenizer, ["Mto unaanzia hapa", "Mvua hunyesha masika"])
    assert store.counts == {
        "documents": 1,
        "rows kept": 2,
        "documents of more or fewer lines than the English one": 1,
        "documents without an English one": 1,
        "texts cut": 0,
    }
    with pytest.raises(DataError, match=r"no pair of texts by \(nothing\)"):
        ColumnPairStore.build_from_documents(tmp_path / "other", paths, same_part="(nothing)", **settings)


def test_rows_with_one_text_on_the_second_side_are_one_text(tmp_path: Path, tokenizer: Any) -> None:
    rows = [("who", "The moon"), ("what", "A river"), ("when", "The moon"), ("why", "The moon")]
    lines = [json.dumps({"en": question, "sw": passage}) for question, passage in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    store = build(tmp_path / "rows.jsonl", tokenizer)
    assert store.text_R.tolist() == [0, 1, 0, 0]
    pairs = ColumnPairSource(store, languages=(1, 1), seed=0).draw(np.arange(4))
    assert sorted(pairs.text_B.tolist()) == [0, 0, 0, 1]
