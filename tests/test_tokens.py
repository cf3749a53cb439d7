"""Packing against a naive loop, and what tokenizers of several kinds put around a text."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mcontriever.errors import ModelError
from mcontriever.tokens import (
    PackedBatch,
    SpecialTokens,
    load_tokenizer,
    pack,
    tokenize_texts,
    tokenizer_fingerprint,
)

SPECIAL = SpecialTokens(begin_id=0, end_id=2, pad_id=1, mask_id=9, unknown_id=3)


def random_rows(seed: int, count: int, longest: int) -> list[list[int]]:
    chance = np.random.default_rng(seed)
    return [chance.integers(10, 99, chance.integers(0, longest + 1)).tolist() for _ in range(count)]


def packed(rows: list[list[int]], max_length: int = 100, first_position: int = 2) -> PackedBatch:
    flat = np.array([token for row in rows for token in row], dtype=np.int64)
    return pack(flat, np.array([len(row) for row in rows], dtype=np.int64), SPECIAL, first_position, max_length)


def rows_of(batch: PackedBatch) -> list[list[int]]:
    bounds = batch.offsets.tolist()
    return [batch.token_ids_T[a:b].tolist() for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize(("max_length", "first_position"), [(100, 2), (8, 0), (3, 2)])
def test_pack_equals_a_naive_loop(max_length: int, first_position: int) -> None:
    rows = [[], [11], *random_rows(1, 30, 20)]
    batch = packed(rows, max_length, first_position)
    expected = [[0, *row[: max_length - 2], 2] for row in rows]
    assert rows_of(batch) == expected
    positions = [first_position + column for row in expected for column in range(len(row))]
    assert batch.position_ids_T.tolist() == positions
    assert batch.truncated == sum(len(row) > max_length - 2 for row in rows)
    assert batch.max_length == max(map(len, expected))
    assert (batch.token_ids_T.dtype, batch.offsets.dtype) == (torch.int64, torch.int32)


def test_pack_of_nothing() -> None:
    batch = packed([])
    assert (len(batch), batch.max_length, batch.truncated) == (0, 0, 0)
    assert batch.offsets.tolist() == [0]


def test_join_split_slice_and_select_agree_with_lists() -> None:
    left, right = random_rows(2, 5, 9), random_rows(3, 7, 12)
    joined = PackedBatch.join([packed(left, 8), packed(right, 8)])
    whole = packed(left + right, 8)
    assert rows_of(joined) == rows_of(whole)
    assert joined.position_ids_T.tolist() == whole.position_ids_T.tolist()
    assert (joined.max_length, joined.truncated) == (whole.max_length, whole.truncated)
    parts = joined.split([5, 7])
    assert [rows_of(part) for part in parts] == [rows_of(packed(left, 8)), rows_of(packed(right, 8))]
    assert rows_of(whole.slice(3, 6)) == rows_of(whole)[3:6]
    assert len(whole.slice(4, 4)) == 0
    order = np.array([11, 0, 0, 5])
    assert rows_of(whole.select(order)) == [rows_of(whole)[row] for row in order]
    assert whole.select(order).position_ids_T.tolist() == [
        position for row in order for position in range(2, 2 + len(rows_of(whole)[row]))
    ]


def test_pad_is_what_a_tokenizer_would_pad(tiny_tokenizer_dir: Path, sentences: dict[str, list[str]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    texts = [text for group in sentences.values() for text in group] + ["", "x"]
    batch = pack(*tokenize_texts(tokenizer, texts, 40), SpecialTokens.of(tokenizer), 2, 40)
    input_ids_NL, mask_NL = batch.pad()
    expected = tokenizer(texts, padding=True, truncation=True, max_length=40, return_tensors="pt")
    assert torch.equal(input_ids_NL, expected["input_ids"])
    assert torch.equal(mask_NL, expected["attention_mask"])
    assert batch.truncated == sum(len(ids) > 40 for ids in tokenizer(texts)["input_ids"])


def word_tokenizer(kind: str) -> Any:
    """BERT's or RoBERTa's specials over a few words; GPT's has none."""
    specials = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "roberta": ["<s>", "<pad>", "</s>", "<unk>"]}
    pieces = specials.get(kind, ["<unk>", "<pad>"])
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "river", "sea"])}
    unknown = next(piece for piece in pieces if "unk" in piece.lower())
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": next(piece for piece in pieces if "pad" in piece.lower()), "unk_token": unknown}
    if kind in specials:
        begin, end = ("[CLS]", "[SEP]") if kind == "bert" else ("<s>", "</s>")
        ends = [(begin, vocabulary[begin]), (end, vocabulary[end])]
        backend.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=ends)
        names |= {"cls_token": begin, "sep_token": end}
    if kind == "bert":
        names["mask_token"] = "[MASK]"
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def test_specials_come_from_the_tokenizer(tiny_tokenizer_dir: Path) -> None:
    tiny = load_tokenizer(tiny_tokenizer_dir)
    assert SpecialTokens.of(tiny) == SpecialTokens(0, 2, 1, len(tiny) - 1, 3)
    assert SpecialTokens.of(word_tokenizer("bert")) == SpecialTokens(2, 3, 0, 4, 1)
    assert SpecialTokens.of(word_tokenizer("roberta")) == SpecialTokens(0, 2, 1, None, 3)
    with pytest.raises(ModelError, match="adds 0 special tokens to a text"):
        SpecialTokens.of(word_tokenizer("gpt"))


def test_another_callers_truncation_does_not_cut_our_texts(tiny_tokenizer_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_dir)
    text = "The river rises in the hills and reaches the sea."
    untouched, _ = tokenize_texts(tokenizer, [text], 100)
    tokenizer([text, "a"], truncation=True, max_length=5, padding="max_length")
    again, lengths = tokenize_texts(tokenizer, [text], 100)
    assert again.tolist() == untouched.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert lengths.tolist() == [len(untouched)]


def test_a_text_of_100_000_characters_is_cut_and_counted(tiny_tokenizer_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_dir)
    long_text = "river sea " * 10_000
    flat, lengths = tokenize_texts(tokenizer, [long_text, ""], 32)
    batch = pack(flat, lengths, SpecialTokens.of(tokenizer), 2, 32)
    assert batch.lengths_N.tolist() == [32, 2]
    assert batch.truncated == 1
    expected = tokenizer(long_text, truncation=True, max_length=32)["input_ids"]
    assert rows_of(batch) == [expected, [0, 2]]


@pytest.mark.parametrize("words", ["river sea ", "the " + " " * 500, "x" * 300 + " ", "尼罗河很长"])
def test_only_the_beginning_of_a_long_text_is_read_and_that_changes_nothing(
    tiny_tokenizer_dir: Path, words: str
) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_dir)
    text = words * (20_000 // len(words))
    flat, _ = tokenize_texts(tokenizer, [text], 32)
    assert flat.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"][:31]


def test_fingerprint_is_stable_over_loads_copies_and_calls(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_dir)
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=5)
    assert tokenizer_fingerprint(tokenizer) == fingerprint
    tokenizer.save_pretrained(tmp_path / "copy")
    assert tokenizer_fingerprint(load_tokenizer(tmp_path / "copy")) == fingerprint


def test_fingerprint_tells_tokenizers_apart(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_dir)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"][50][1] -= 1.0
    lowercasing = load_tokenizer(tiny_tokenizer_dir)
    lowercasing.backend_tokenizer.normalizer = normalizers.Lowercase()
    rescored = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    fingerprints = {tokenizer_fingerprint(each) for each in (tokenizer, lowercasing, rescored)}
    assert len(fingerprints) == 3


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "xlm-roberta"}')
    with pytest.raises(ModelError, match="the folder has no tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        load_tokenizer(tmp_path)
