"""Tokens: special ids, positions, packing. No other file knows <s>, </s> or <pad>.

A `PackedBatch` holds N sequences back to back, without padding:

    token_ids_T     <s> a b c </s> <s> d </s> ...      T tokens in all
    position_ids_T   2  3 4 5   6   2  3   4  ...      XLM-R and RoBERTa start at padding_idx + 1 = 2, BERT at 0
    offsets         0 5 8 ...                          row i is tokens offsets[i] to offsets[i + 1]

Shapes: N sequences, T tokens in all, L longest sequence.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever.disk import read_json
from mcontriever.errors import ModelError
from mcontriever.hub import model_folder
from mcontriever.model_files import reading_model

SPECIALS_PER_ROW = 2  # one token before the text, one after
CHARACTERS_PER_TOKEN = 64  # characters of a long text that are tokenized first, per wanted token
_SETTINGS = "tokenizer_config.json"
_VOCABULARY_FILES = ("tokenizer.json", "sentencepiece.bpe.model", "spiece.model", "vocab.txt", "vocab.json")


@dataclass(frozen=True)
class SpecialTokens:
    """`mask_id` and `unknown_id` are None if the tokenizer has none."""

    begin_id: int
    end_id: int
    pad_id: int
    mask_id: int | None
    unknown_id: int | None

    @classmethod
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """What the tokenizer puts around an empty text is begin and end."""
        around = list(tokenizer("", add_special_tokens=True)["input_ids"])
        if len(around) != SPECIALS_PER_ROW:
            raise ModelError(
                f"the tokenizer adds {len(around)} special tokens to a text; it must add one before and one after",
                where=tokenizer.name_or_path,
                fix="use a BERT-like encoder (XLM-R, BERT, RoBERTa, DistilBERT, ModernBERT...)",
            )
        if tokenizer.pad_token_id is None:
            fix = "export or download the model again: tokenizer_config.json names it"
            raise ModelError("the tokenizer has no padding token", where=tokenizer.name_or_path, fix=fix)
        begin_id, end_id = around
        return cls(begin_id, end_id, tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.unk_token_id)


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """N token sequences, back to back in T tokens. `truncated` counts the sequences cut by packing."""

    token_ids_T: torch.Tensor
    position_ids_T: torch.Tensor
    offsets: torch.Tensor
    max_length: int
    pad_id: int
    truncated: int = 0

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def lengths_N(self) -> torch.Tensor:
        return self.offsets[1:] - self.offsets[:-1]

    @classmethod
    def join(cls, batches: Sequence["PackedBatch"]) -> "PackedBatch":
        """One batch of all their rows, in order."""
        assert batches, "nothing to join"
        assert len({batch.pad_id for batch in batches}) == 1, "batches of different tokenizers"
        starts = np.cumsum([0] + [batch.token_ids_T.shape[0] for batch in batches]).tolist()
        offsets = [batch.offsets[1:] + start for batch, start in zip(batches, starts[:-1], strict=True)]
        return cls(
            token_ids_T=torch.cat([batch.token_ids_T for batch in batches]),
            position_ids_T=torch.cat([batch.position_ids_T for batch in batches]),
            offsets=torch.cat([batches[0].offsets[:1], *offsets]),
            max_length=max(batch.max_length for batch in batches),
            pad_id=batches[0].pad_id,
            truncated=sum(batch.truncated for batch in batches),
        )

    def split(self, counts: Sequence[int]) -> list["PackedBatch"]:
        """The inverse of `join`, except that the parts' `truncated` is 0."""
        assert sum(counts) == len(self), f"split into {sum(counts)} rows, but there are {len(self)}"
        ends = np.cumsum(counts).tolist()
        return [self.slice(end - count, end) for count, end in zip(counts, ends, strict=True)]

    def slice(self, start: int, stop: int) -> "PackedBatch":
        """Rows start to stop."""
        assert 0 <= start <= stop <= len(self), f"rows {start}:{stop} of {len(self)}"
        offsets = self.offsets[start : stop + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        return replace(
            self,
            token_ids_T=self.token_ids_T[first:last],
            position_ids_T=self.position_ids_T[first:last],
            offsets=offsets - first,
            max_length=int((offsets[1:] - offsets[:-1]).max()) if stop > start else 0,
            truncated=0,
        )

    def select(self, rows: np.ndarray) -> "PackedBatch":
        """These rows, in this order."""
        offsets = self.offsets.cpu().numpy()
        lengths = offsets[1:][rows] - offsets[:-1][rows]
        new_offsets = cumulative(lengths)
        source = np.arange(new_offsets[-1]) + np.repeat(offsets[:-1][rows] - new_offsets[:-1], lengths)
        index = torch.from_numpy(source).to(self.token_ids_T.device)
        return replace(
            self,
            token_ids_T=self.token_ids_T[index],
            position_ids_T=self.position_ids_T[index],
            offsets=torch.from_numpy(new_offsets.astype(np.int32)).to(self.offsets.device),
            max_length=int(lengths.max(initial=0)),
            truncated=0,
        )

    def to(self, device: str | torch.device, *, non_blocking: bool = False) -> "PackedBatch":
        return replace(
            self,
            token_ids_T=self.token_ids_T.to(device, non_blocking=non_blocking),
            position_ids_T=self.position_ids_T.to(device, non_blocking=non_blocking),
            offsets=self.offsets.to(device, non_blocking=non_blocking),
        )

    def pad(self) -> tuple[torch.Tensor, torch.Tensor]:
        """input_ids_NL and attention_mask_NL of a Hugging Face model."""
        columns_L = torch.arange(self.max_length, device=self.offsets.device)
        mask_NL = columns_L < self.lengths_N[:, None]
        input_ids_NL = self.token_ids_T.new_full(mask_NL.shape, self.pad_id)
        input_ids_NL[mask_NL] = self.token_ids_T
        return input_ids_NL, mask_NL.long()


def pack(
    flat_token_ids: np.ndarray,
    lengths_N: np.ndarray,
    special: SpecialTokens,
    first_position: int,
    max_length: int,
) -> PackedBatch:
    """Add begin and end to each of N rows, cut rows to `max_length` with both, and count the cut rows."""
    lengths_N = np.asarray(lengths_N, dtype=np.int64)
    assert max_length > SPECIALS_PER_ROW, f"max_length {max_length} leaves no room for text"
    assert lengths_N.sum() == len(flat_token_ids), "lengths do not add up to the tokens"
    kept_N = np.minimum(lengths_N, max_length - SPECIALS_PER_ROW)
    offsets = cumulative(kept_N + SPECIALS_PER_ROW)
    starts_N, ends_N, total = offsets[:-1], offsets[1:], int(offsets[-1])

    column_T = np.arange(total) - np.repeat(starts_N, ends_N - starts_N)
    is_text_T = np.ones(total, dtype=bool)
    is_text_T[starts_N] = False
    is_text_T[ends_N - 1] = False
    truncated_rows = int((kept_N < lengths_N).sum())
    if truncated_rows:
        column_of_source = np.arange(len(flat_token_ids)) - np.repeat(cumulative(lengths_N)[:-1], lengths_N)
        flat_token_ids = flat_token_ids[column_of_source < max_length - SPECIALS_PER_ROW]
    token_ids_T = np.empty(total, dtype=np.int64)
    token_ids_T[starts_N] = special.begin_id
    token_ids_T[ends_N - 1] = special.end_id
    token_ids_T[is_text_T] = flat_token_ids
    return PackedBatch(
        token_ids_T=torch.from_numpy(token_ids_T),
        position_ids_T=torch.from_numpy(column_T + first_position),
        offsets=torch.from_numpy(offsets.astype(np.int32)),
        max_length=int(kept_N.max(initial=-SPECIALS_PER_ROW)) + SPECIALS_PER_ROW,
        pad_id=special.pad_id,
        truncated=truncated_rows,
    )


def cumulative(lengths: np.ndarray) -> np.ndarray:
    """[3, 2] -> [0, 3, 5]."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def tokenize_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of all texts, back to back, without special tokens; and the number of tokens of each text.

    A text too long for `max_length` keeps one token more than fits, so `pack` can count the cut. The rest is not read:
    a book costs no more than its beginning.
    """
    room = max_length - SPECIALS_PER_ROW + 1
    enough = CHARACTERS_PER_TOKEN * max_length
    found = _token_id_lists(tokenizer, [text[:enough] for text in texts])
    sparse = [row for row, ids in enumerate(found) if len(ids) < 2 * room and len(texts[row]) > enough]
    for row, ids in zip(sparse, _token_id_lists(tokenizer, [texts[row] for row in sparse]), strict=True):
        found[row] = ids
    rows = [np.asarray(ids[:room], dtype=np.int64) for ids in found]
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    return (np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)), lengths


def prefix_tokens(tokenizer: Any, prefix: str) -> list[int]:
    """What stands before a text's own tokens when the text begins with "query: " or the like."""
    return _token_id_lists(tokenizer, [prefix])[0] if prefix else []


def _token_id_lists(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    _clear_truncation(backend)
    try:
        rows = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    except TypeError:  # half a surrogate pair, from broken JSON, is not Unicode
        rows = backend.encode_batch_fast([_as_unicode(text) for text in texts], add_special_tokens=False)
    return [row.ids for row in rows]


def _as_unicode(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _clear_truncation(backend: Any) -> None:
    """The Rust object keeps another caller's `truncation=True`, which would cut our texts silently."""
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()


def load_tokenizer(name_or_folder: str | Path) -> Any:
    """The Hugging Face tokenizer of a folder or hub name."""
    from transformers import AutoTokenizer

    folder = model_folder(name_or_folder)
    # Without these files transformers returns an empty tokenizer and no error.
    if not any((folder / name).exists() for name in _VOCABULARY_FILES):
        raise ModelError(
            f"the folder has no tokenizer: none of {', '.join(_VOCABULARY_FILES)}",
            where=folder,
            fix="copy the tokenizer's files beside the model, or export the model again",
        )
    with reading_model("cannot read the tokenizer", folder):
        if (folder / _SETTINGS).exists():
            read_json(folder / _SETTINGS)  # transformers accepts what is not text, and cannot save it
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        SpecialTokens.of(tokenizer)
    return tokenizer


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """sha256 over vocabulary, scores, normalization and special tokens: equal iff two tokenizers are the same."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = json.dumps(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    else:
        _clear_truncation(backend)
        rules = backend.to_str()
    special = SpecialTokens.of(tokenizer)
    return hashlib.sha256(f"{rules}\n{special}".encode()).hexdigest()
