"""Where words begin in a row of tokens, for augmentations and word swaps that must not split words.

A sentencepiece word begins with "▁" and a byte-level one with "Ġ"; a WordPiece word continues with "##". Punctuation, a
bare "▁", and every piece of a script without spaces between words are words of their own.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever.ragged import IntArray, Ragged

BoolArray = npt.NDArray[np.bool_]

_WORD_MARKS = "▁Ġ"
UNSPACED_SCRIPTS = re.compile(
    "[\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u109f"  # Tibetan, Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # kana
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Han
)


@dataclass(frozen=True, eq=False)
class WordBoundaries:
    """For each token: does it begin a word, is it a word of its own, and does its script have no spaces?"""

    begins_V: BoolArray
    alone_V: BoolArray
    unspaced_V: BoolArray

    @classmethod
    def of(cls, tokenizer: Any) -> "WordBoundaries":
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        backend = tokenizer.backend_tokenizer.model
        continuing = getattr(backend, "continuing_subword_prefix", None)
        special = set(tokenizer.all_special_ids)
        alone = [token in special or _stands_alone(piece, continuing) for token, piece in enumerate(pieces)]
        begins = [
            not piece.startswith(continuing) if continuing else piece.startswith(tuple(_WORD_MARKS)) for piece in pieces
        ]
        unspaced = [bool(UNSPACED_SCRIPTS.search(piece)) for piece in pieces]
        return cls(np.array(begins) | np.array(alone), np.array(alone), np.array(unspaced))

    def starts_T(self, rows: Ragged) -> BoolArray:
        """Which tokens begin a word; the first of a row always does."""
        begins_T = self.begins_V[rows.values_T]
        begins_T[1:] |= self.alone_V[rows.values_T[:-1]]
        begins_T[rows.starts_N[rows.lengths_N > 0]] = True
        return begins_T

    def word_of_T(self, rows: Ragged) -> IntArray:
        """The number of each token's word, counted from 0 in each row."""
        return number_in_row(rows, self.starts_T(rows))


def number_in_row(rows: Ragged, starts_T: BoolArray) -> IntArray:
    """The number of each token's word, where words begin as `starts_T` says."""
    counted_T = np.cumsum(starts_T)
    filled = rows.lengths_N > 0
    return counted_T - np.repeat(counted_T[rows.starts_N[filled]], rows.lengths_N[filled])


def _stands_alone(piece: str, continuing: str | None) -> bool:
    text = piece.removeprefix(continuing) if continuing else piece.lstrip(_WORD_MARKS)
    return bool(UNSPACED_SCRIPTS.search(text)) or all(unicodedata.category(mark)[0] in "PSZ" for mark in text)
