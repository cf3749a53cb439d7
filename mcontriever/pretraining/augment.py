"""Noise on top of views: delete, replace or mask tokens (or whole words), and shuffle some of them.

    source = Augmented(crops, Augmentation(delete=0.1), kinds=TokenKinds.of(tokenizer), seed=0)

Each token (or word) of a view draws one number, a function of (seed, sample, view, place), which decides whether it is
deleted, replaced, masked or kept; the probabilities exclude each other, so their sum is at most 1.

Shapes: N rows, T tokens, C chosen tokens or words.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever import chance
from mcontriever.errors import ConfigError
from mcontriever.pretraining.pairs import MOST_VIEWS, PairSource, TokenPairs
from mcontriever.ragged import IntArray, Ragged
from mcontriever.tokens import SpecialTokens
from mcontriever.word_starts import BoolArray, WordBoundaries

UInt32Array = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Augmentation:
    """The probability of each change for a token, or for a word if `whole_words`."""

    delete: float = 0.0
    replace: float = 0.0
    mask: float = 0.0
    shuffle: float = 0.0
    whole_words: bool = False

    def __post_init__(self) -> None:
        values = {"delete": self.delete, "replace": self.replace, "mask": self.mask, "shuffle": self.shuffle}
        for name, value in values.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"augmentation {name} must be a probability, is {value}", fix="give 0 to 1")
        total = self.delete + self.replace + self.mask
        if total > 1:
            raise ConfigError(f"delete, replace and mask add up to {total}, more than 1", fix="lower one of them")


@dataclass(frozen=True, eq=False)
class TokenKinds:
    """What augmentations need to know about a tokenizer."""

    mask_id: int | None
    ordinary_ids: IntArray
    words: WordBoundaries

    @classmethod
    def of(cls, tokenizer: Any) -> "TokenKinds":
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), np.array(tokenizer.all_special_ids))
        return cls(SpecialTokens.of(tokenizer).mask_id, ordinary, WordBoundaries.of(tokenizer))


class Augmented:
    """Another source's pairs with noise on both sides."""

    def __init__(self, source: PairSource, augmentation: Augmentation, *, kinds: TokenKinds, seed: int) -> None:
        if augmentation.mask and kinds.mask_id is None:
            raise ConfigError("augmentation mask needs a tokenizer with a mask token", fix="use delete or replace")
        self.source = source
        self.augmentation = augmentation
        self.kinds = kinds
        self.seed = seed

    def draw(self, samples: IntArray) -> TokenPairs:
        pairs = self.source.draw(samples)
        key_samples, key_views_N = key_views(samples, pairs.keys_per_query)
        both = self._augment(
            Ragged.join([pairs.queries, pairs.keys]),
            np.concatenate([samples, key_samples]),
            np.concatenate([np.zeros_like(samples), key_views_N]),
        )
        queries, keys = both.split(len(samples))
        return TokenPairs(queries, keys, pairs.language_B, pairs.text_B)

    def _augment(self, rows: Ragged, samples: IntArray, views: IntArray) -> Ragged:
        chosen = self.augmentation
        if chosen.shuffle:
            rows = self._shuffle(rows, samples, views)
        if chosen.delete or chosen.replace or chosen.mask:
            rows = self._alter(rows, samples, views)
        return rows

    def _alter(self, rows: Ragged, samples: IntArray, views: IntArray) -> Ragged:
        """Delete, replace and mask share one draw: [0, delete) [delete, + replace) [.., + mask) keep."""
        chosen = self.augmentation
        draw_T = place_bits(self.seed, "augment", samples, views, rows, self._units_T(rows))
        if chosen.replace:
            replaced_T = below(draw_T, chosen.delete + chosen.replace) & ~below(draw_T, chosen.delete)
            rows = rows.with_values(np.where(replaced_T, self._random_tokens_T(rows, samples, views), rows.values_T))
        if chosen.mask:
            before = chosen.delete + chosen.replace
            assert self.kinds.mask_id is not None
            masked_T = below(draw_T, before + chosen.mask) & ~below(draw_T, before)
            rows = rows.with_values(np.where(masked_T, self.kinds.mask_id, rows.values_T))
        if chosen.delete:
            rows = _keep_some(rows, ~below(draw_T, chosen.delete))
        return rows

    def _random_tokens_T(self, rows: Ragged, samples: IntArray, views: IntArray) -> npt.NDArray[Any]:
        bits_T = place_bits(self.seed, "replace by", samples, views, rows, rows.places_T)
        ordinary = self.kinds.ordinary_ids
        return ordinary[(bits_T.astype(np.uint64) * np.uint64(len(ordinary))) >> np.uint64(32)]

    def _shuffle(self, rows: Ragged, samples: IntArray, views: IntArray) -> Ragged:
        """The chosen tokens or words of a row exchange places."""
        unit_T = self._units_T(rows)
        first_T = np.concatenate([[True], (np.diff(unit_T) != 0) | (np.diff(rows.rows_T) != 0)])
        units = np.flatnonzero(first_T)
        row_of_unit, unit_of_unit = rows.rows_T[units], unit_T[units]
        draw_of_unit = place_bits(self.seed, "shuffle", samples, views, rows, unit_T)[units]
        chosen_C = np.flatnonzero(below(draw_of_unit, self.augmentation.shuffle))
        order_bits = place_bits(self.seed, "shuffle order", samples, views, rows, unit_T)[units][chosen_C]
        slot_of_unit = unit_of_unit.copy()
        slot_of_unit[chosen_C[np.lexsort((order_bits, row_of_unit[chosen_C]))]] = unit_of_unit[chosen_C]
        slot_T = slot_of_unit[np.cumsum(first_T) - 1]
        return rows.with_values(rows.values_T[np.lexsort((slot_T, rows.rows_T))])

    def _units_T(self, rows: Ragged) -> IntArray:
        return self.kinds.words.word_of_T(rows) if self.augmentation.whole_words else rows.places_T


def key_views(samples: IntArray, keys_per_query: int) -> tuple[IntArray, IntArray]:
    """(sample, view) of every key row: the keys of a query are its views 1 to n."""
    return np.repeat(samples, keys_per_query), np.tile(np.arange(1, keys_per_query + 1), len(samples))


def place_bits(
    seed: int, stream: str, samples: IntArray, views: IntArray, rows: Ragged, place_T: IntArray
) -> UInt32Array:
    """32 random bits for each token, a function of (seed, stream, sample, view, place).

    Mixing 64 bits per row and only 32 bits per token is what allows 300,000 samples a second.
    """
    row_keys_N = (chance.random_bits(seed, stream, samples * MOST_VIEWS + views) >> np.uint64(32)).astype(np.uint32)
    bits_T = place_T.astype(np.uint32)
    bits_T *= np.uint32(0x9E3779B1)
    bits_T ^= np.repeat(row_keys_N, rows.lengths_N)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits_T ^= bits_T >> np.uint32(shift)
        bits_T *= np.uint32(factor)
    bits_T ^= bits_T >> np.uint32(16)
    return bits_T


def below(bits_T: UInt32Array, probability: float) -> BoolArray:
    """Which of these 32-bit draws are below a probability."""
    values = round(probability * 2**32)
    return bits_T <= np.uint32(values - 1) if values else np.zeros(len(bits_T), dtype=bool)


def _keep_some(rows: Ragged, kept_T: BoolArray) -> Ragged:
    """Drop what is not kept, except the first token of a row that would lose everything."""
    kept = rows.keep(kept_T)
    emptied_N = (kept.lengths_N == 0) & (rows.lengths_N > 0)
    if not emptied_N.any():
        return kept
    kept_T[rows.starts_N[emptied_N]] = True
    return rows.keep(kept_T)
