"""Texts to token ids with the model's own fast tokenizer, in one thread, in bounded memory, without special tokens."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LONGEST_PIECE = 1 << 18  # characters


def tokenize(texts: Sequence[str], tokenizer_file: Path) -> list[npt.NDArray[np.uint32]]:
    """The token ids of each text. "<s>" in a text is three characters, never a special token."""
    tokenizer, special = _load_tokenizer(tokenizer_file)
    if any(len(text) > LONGEST_PIECE for text in texts):
        return [np.concatenate([tokenize([piece], tokenizer_file)[0] for piece in _pieces(text)]) for text in texts]
    rows = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    token_ids = [np.fromiter(row.ids, dtype=np.uint32, count=len(row)) for row in rows]
    for number, ids in enumerate(token_ids):
        if np.isin(ids, list(special)).any():
            row = tokenizer.encode(_written_apart(texts[number], special.values()), add_special_tokens=False)
            token_ids[number] = np.array(row.ids, dtype=np.uint32)
    return token_ids


def _written_apart(text: str, names: Iterable[str]) -> str:
    """ "<s>" as "< s>", because the tokenizer library would read a special token's name as the token itself."""
    text = unicodedata.normalize("NFKC", text)
    for name in names:
        text = text.replace(name, f"{name[0]} {name[1:]}")
    return text


def _pieces(text: str) -> list[str]:
    """A very long text in parts, because the tokenizer needs some hundred bytes for each character.

    Parts end before white space, where tokens end too.
    """
    if len(text) <= LONGEST_PIECE:
        return [text]
    pieces, start = [], 0
    while len(text) - start > LONGEST_PIECE:
        window = text[start : start + LONGEST_PIECE]
        breaks = [match.start() for match in re.finditer(r"\s+", window[LONGEST_PIECE // 2 :])]
        end = start + (LONGEST_PIECE // 2 + breaks[-1] if breaks and breaks[-1] else LONGEST_PIECE)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


@lru_cache(maxsize=1)
def _load_tokenizer(tokenizer_file: Path) -> tuple[Any, dict[int, str]]:
    """The tokenizer, and by id the special tokens that no text may become: all but the unknown token."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the worker processes share the cores already
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = tokenizer.get_added_tokens_decoder()
    unknown = getattr(tokenizer.model, "unk_token", None) or "<unk>"
    return tokenizer, {token: name.content for token, name in added.items() if name.special and name.content != unknown}
