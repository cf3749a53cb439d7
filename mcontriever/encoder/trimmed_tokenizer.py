"""A tokenizer with fewer pieces, which cuts every text that needs none of the others exactly as before.

    vocabulary = Vocabulary.of(tokenizer)
    trimmed = vocabulary.keep(sorted(chosen_ids))      # ids are new: the kept pieces, numbered in their old order

Unigram: the best segmentation of a text stays the best when other pieces go. WordPiece: the longest piece stays the
longest. BPE: the merges of a kept piece stay, and the merges that were never applied to a text are not missed.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever.errors import ModelError

_KINDS = ("Unigram", "WordPiece", "BPE")
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SCRIPT_SHARE = 0.01
OTHER = ""  # the "script" of digits, punctuation and symbols


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """`rules` is what tokenizer.json holds; `texts` has the pieces without WordPiece's mark of a word's inside."""

    tokenizer: Any
    rules: dict[str, Any]
    names: list[str]
    texts: list[str]
    parts_of: dict[int, tuple[int, ...]]

    @classmethod
    def of(cls, tokenizer: Any) -> "Vocabulary":
        rules = _rules(tokenizer)
        model = rules["model"]
        vocabulary = model["vocab"]
        if model["type"] == "Unigram":
            ids = {name: number for number, (name, _) in enumerate(vocabulary)}
        else:
            ids = dict(vocabulary)
        ids |= {token["content"]: token["id"] for token in rules["added_tokens"]}
        names = sorted(ids, key=ids.__getitem__)
        if [ids[name] for name in names] != list(range(len(names))):
            raise ModelError("the pieces' numbers have gaps", where=tokenizer.name_or_path, fix="trim another model")
        inside_word = model.get("continuing_subword_prefix") or ""
        parts = _merged_parts(model, ids) if model["type"] == "BPE" else {}
        return cls(tokenizer, rules, names, [name.removeprefix(inside_word) for name in names], parts)

    def __len__(self) -> int:
        return len(self.names)

    def always_kept(self, characters: set[str], scripts: set[str]) -> set[int]:
        """Special tokens, single characters, and the pieces that other numbers and scores depend on.

        RoBERTa's positions count from the padding token's number, so what stands before it stays; and sentencepiece
        uses the lowest score of all as the cost of an unknown character.
        """
        kept = {token["id"] for token in self.rules["added_tokens"]} | self._bytes()
        kept |= set(range((self.tokenizer.pad_token_id or 0) + 1))
        for number, text in enumerate(self.texts):
            if len(text) == 1 and (text in characters or script_of(text) in {*scripts, OTHER}):
                kept.add(number)
        model = self.rules["model"]
        if model["type"] == "Unigram":
            kept.add(model["unk_id"])
            kept.add(min(range(len(model["vocab"])), key=lambda number: (model["vocab"][number][1], number)))
        elif model.get("unk_token") is not None:
            kept.add(model["vocab"][model["unk_token"]])
        return kept

    def probabilities(self) -> npt.NDArray[np.float64] | None:
        """Of the pieces in the text that the vocabulary was made of; None where it does not say."""
        if self.rules["model"]["type"] != "Unigram":
            return None
        scores = [score for _, score in self.rules["model"]["vocab"]]
        return np.exp(np.array(scores + [-np.inf] * (len(self) - len(scores))))

    def _bytes(self) -> set[int]:
        """The pieces of single bytes: any text can be made of them."""
        if "ByteLevel" in json.dumps([self.rules["pre_tokenizer"], self.rules["decoder"]]):
            return {number for number, name in enumerate(self.names) if len(name) == 1}
        fallback = self.rules["model"].get("byte_fallback")
        return {n for n, name in enumerate(self.names) if fallback and len(name) == 6 and name.startswith("<0x")}

    def keep(self, kept: Sequence[int]) -> Any:
        """The tokenizer of these pieces."""
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        new_ids = {old: new for new, old in enumerate(kept)}
        rules = json.loads(json.dumps(self.rules))
        _keep_in_model(rules["model"], new_ids)
        for token in rules["added_tokens"]:
            token["id"] = new_ids[token["id"]]
        _renumber(rules["post_processor"], new_ids)
        named = {name: getattr(self.tokenizer, name) for name in _NAMES if getattr(self.tokenizer, name) is not None}
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(rules)),
            model_max_length=self.tokenizer.model_max_length,
            model_input_names=self.tokenizer.model_input_names,
            padding_side=self.tokenizer.padding_side,
            **named,
        )


def characters_and_scripts(vocabulary: Vocabulary, counts_LV: npt.NDArray[np.int64]) -> tuple[set[str], set[str]]:
    """The characters of the pieces in use, and the scripts that make up a hundredth of some language's letters."""
    characters, scripts = set[str](), set[str]()
    special = {token["id"] for token in vocabulary.rules["added_tokens"]}
    for counts_V in counts_LV:
        letters = Counter[str]()
        for number in np.flatnonzero(counts_V).tolist():
            if number not in special:
                characters |= set(vocabulary.texts[number])
                for character in vocabulary.texts[number]:
                    letters[script_of(character)] += int(counts_V[number])
        del letters[OTHER]
        scripts |= {script for script, count in letters.items() if count >= SCRIPT_SHARE * letters.total()}
    return characters, scripts


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """As Unicode names it: LATIN, ARABIC, CJK, ...; "" for what is not a letter."""
    if unicodedata.category(character)[0] not in "LM":
        return OTHER
    return unicodedata.name(character, "?").split()[0]


def _rules(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    where = tokenizer.name_or_path
    if backend is None:
        raise ModelError(
            f"{type(tokenizer).__name__} has no tokenizer.json, and only that can be cut",
            where=where,
            fix="save the model with its fast tokenizer, or trim --layers alone",
        )
    backend.no_truncation()
    backend.no_padding()
    rules: dict[str, Any] = json.loads(backend.to_str())
    model = rules["model"]
    if model["type"] not in _KINDS:
        raise ModelError(
            f"a tokenizer of the kind {model['type']} cannot be cut, only {', '.join(_KINDS)}",
            where=where,
            fix="trim --layers alone",
        )
    if model.get("ignore_merges") or model.get("dropout"):
        raise ModelError(
            "its BPE takes whole words before its merges, or drops merges by chance: with fewer pieces "
            "it would cut the same texts differently",
            where=where,
            fix="trim --layers alone",
        )
    return rules


def _merged_parts(model: dict[str, Any], ids: dict[str, int]) -> dict[int, tuple[int, ...]]:
    inner = model.get("continuing_subword_prefix") or ""
    found: dict[int, tuple[int, ...]] = {}
    for left, right in map(_pair, model["merges"]):
        found.setdefault(ids[left + right.removeprefix(inner)], (ids[left], ids[right]))
    return found


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _keep_in_model(model: dict[str, Any], new_ids: dict[int, int]) -> None:
    if model["type"] == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new_ids]
        model["unk_id"] = new_ids[model["unk_id"]]
        return
    model["vocab"] = {name: new_ids[old] for name, old in model["vocab"].items() if old in new_ids}
    if model["type"] == "BPE":
        inner = model.get("continuing_subword_prefix") or ""
        pairs = [_pair(merge) for merge in model["merges"]]
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if {left, right, left + right.removeprefix(inner)} <= model["vocab"].keys()
        ]


def _renumber(processor: Any, new_ids: dict[int, int]) -> None:
    """In place: whatever kind of post-processor it is, it names special tokens by number."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _renumber(inner, new_ids)
    for side in ("cls", "sep"):
        if side in processor:
            processor[side][1] = new_ids[processor[side][1]]
    if processor["type"] == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            token["ids"] = [new_ids[old] for old in token["ids"]]
