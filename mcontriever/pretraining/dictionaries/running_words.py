"""Words of running text on token ids: their hashes, and which distinct ones a language's shards hold.

Shapes: T tokens, W words of running text, D distinct words.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever import chance
from mcontriever.ragged import IntArray, Ragged
from mcontriever.token_shards import TokenStore
from mcontriever.word_starts import WordBoundaries

UInt64Array = npt.NDArray[np.uint64]


def word_hashes(rows: Ragged, first_W: IntArray) -> UInt64Array:
    """64 bits for each word from its token ids and their order: equal words, equal bits. With 10^6 entries one word in
    10^13 is taken for another, so the tokens themselves are not compared."""
    if not len(first_W):
        return np.zeros(0, dtype=np.uint64)
    place_T = np.arange(len(rows.values_T)) - np.repeat(first_W, np.diff(np.append(first_W, len(rows.values_T))))
    return np.add.reduceat(token_bits(rows.values_T, place_T), first_W)


def token_bits(values_T: IntArray, place_T: npt.ArrayLike) -> UInt64Array:
    """What a token at this place of a word adds to the word's hash."""
    return chance.random_bits(0, "word", values_T, place_T)


def distinct_words(
    store: TokenStore, language: str, words: WordBoundaries, tokenizer: Any, *, at_least: int
) -> tuple[UInt64Array, list[str]]:
    """The words that stand at least so often in the language's shards, as hashes and as texts."""
    hashes: list[UInt64Array] = []
    counts: list[IntArray] = []
    found: list[Ragged] = []
    for rows in store.documents(language):
        first_W = np.flatnonzero(words.starts_T(rows))
        words_W = Ragged.of_lengths(rows.values_T, np.diff(np.append(first_W, len(rows.values_T))))
        hashes_D, some_D, counts_D = np.unique(word_hashes(rows, first_W), return_index=True, return_counts=True)
        hashes.append(hashes_D)
        counts.append(counts_D)
        found.append(words_W.take(some_D))
    hashes_D, some_D, which = np.unique(np.concatenate(hashes), return_index=True, return_inverse=True)
    frequent = np.bincount(which, np.concatenate(counts)) >= at_least
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    rows = Ragged.join(found).take(some_D[frequent])
    return hashes_D[frequent], ["".join(pieces[token] for token in row).lstrip("▁Ġ") for row in rows.to_lists()]
