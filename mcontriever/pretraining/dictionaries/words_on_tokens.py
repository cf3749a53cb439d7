"""Words of running text on token ids: their hashes, and words of several pieces where no spaces separate words.

Every piece of a script without spaces begins a word (`word_starts.py`). From the left, up to four pieces that a
dictionary knows as one word are joined into one.

Shapes: T tokens, N rows, W words of running text, J joined words of the dictionary.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcontriever import chance
from mcontriever.ragged import IntArray, Ragged
from mcontriever.word_starts import WordBoundaries

MAX_PIECES = 4
BoolArray = npt.NDArray[np.bool_]
UInt64Array = npt.NDArray[np.uint64]


def word_hashes(rows: Ragged, first_W: IntArray) -> UInt64Array:
    """64 bits for each word from its token ids and their order. With 10^6 entries two words collide with a chance of
    10^-13, so the tokens themselves are not compared."""
    if not len(first_W):
        return np.zeros(0, dtype=np.uint64)
    place_T = np.arange(len(rows.values_T)) - np.repeat(first_W, word_lengths(rows, first_W))
    return np.add.reduceat(_token_bits(rows.values_T, place_T), first_W)


def word_lengths(rows: Ragged, first_W: IntArray) -> IntArray:
    """How many tokens each word has, where words begin at `first_W`."""
    return np.diff(np.append(first_W, len(rows.values_T)))


def can_be_joined(texts: Ragged, words: WordBoundaries) -> BoolArray:
    """Which texts consist of two to four pieces of such a script."""
    unspaced_N = np.bincount(texts.rows_T[words.unspaced_V[texts.values_T]], minlength=len(texts))
    return (unspaced_N == texts.lengths_N) & (texts.lengths_N > 1) & (texts.lengths_N <= MAX_PIECES)


@dataclass(frozen=True, eq=False)
class JoinedWords:
    hashes_J: UInt64Array
    unspaced_V: BoolArray

    @classmethod
    def of(cls, hashes_J: UInt64Array, words: WordBoundaries) -> "JoinedWords":
        return cls(np.unique(hashes_J), words.unspaced_V)

    def join(self, rows: Ragged, starts_T: BoolArray) -> BoolArray:
        """The beginnings of words, without those inside a joined word."""
        unspaced_T = self.unspaced_V[rows.values_T]
        if not len(self.hashes_J) or not unspaced_T.any():
            return starts_T
        begins_run_T = unspaced_T.copy()
        begins_run_T[1:] &= ~unspaced_T[:-1]
        begins_run_T[rows.starts_N[rows.lengths_N > 0]] = unspaced_T[rows.starts_N[rows.lengths_N > 0]]
        run_T = np.cumsum(begins_run_T) * unspaced_T
        pieces_T = self._pieces_from(rows, run_T)
        joined_T = starts_T.copy()
        current = np.flatnonzero(begins_run_T)
        while len(current):
            for place in range(1, MAX_PIECES):
                joined_T[current[pieces_T[current] > place] + place] = False
            following = current + pieces_T[current]
            inside = following < len(run_T)
            current, following = current[inside], following[inside]
            current = following[run_T[following] == run_T[current]]
        return joined_T

    def _pieces_from(self, rows: Ragged, run_T: IntArray) -> IntArray:
        """How many pieces the longest known word has that begins at each token; 1 if there is none."""
        pieces_T = np.ones(len(run_T), dtype=np.int64)
        place_T = np.flatnonzero(run_T)
        hash_T = _token_bits(rows.values_T[place_T], 0)
        for count in range(2, MAX_PIECES + 1):
            inside = place_T + count - 1 < len(run_T)
            place_T, hash_T = place_T[inside], hash_T[inside]
            same_run = run_T[place_T] == run_T[place_T + count - 1]
            place_T, hash_T = place_T[same_run], hash_T[same_run]
            hash_T = hash_T + _token_bits(rows.values_T[place_T + count - 1], count - 1)
            found = np.minimum(np.searchsorted(self.hashes_J, hash_T), len(self.hashes_J) - 1)
            pieces_T[place_T[self.hashes_J[found] == hash_T]] = count
        return pieces_T


def _token_bits(values_T: IntArray, place_T: npt.ArrayLike) -> UInt64Array:
    """What a token at this place of a word adds to the word's hash."""
    return chance.random_bits(0, "word", values_T, place_T)
