"""Noise on views: its rates, and that it touches nothing else."""

from typing import Any

import numpy as np
import pytest

from mcontriever.errors import ConfigError
from mcontriever.pretraining.augment import Augmentation, Augmented, TokenKinds, place_bits
from mcontriever.pretraining.pairs import TokenPairs
from mcontriever.ragged import Ragged
from mcontriever.word_starts import WordBoundaries

VOCABULARY = 100_000
KINDS = TokenKinds(
    mask_id=3,
    ordinary_ids=np.arange(50_000, 60_000),
    words=WordBoundaries(np.arange(VOCABULARY) % 3 == 0, *np.zeros((2, VOCABULARY), dtype=bool)),
)


class Counting:
    """Sample i: one query and two keys of 60 tokens, all different."""

    def draw(self, samples: np.ndarray) -> TokenPairs:
        return TokenPairs(
            Ragged.of([np.arange(60) + 300 for _ in samples]),
            Ragged.of([np.arange(60) + 600 for _ in samples for _ in range(2)]),
            np.zeros_like(samples),
            samples,
        )


def augmented(augmentation: Augmentation, samples: np.ndarray | None = None, seed: int = 0) -> TokenPairs:
    samples = np.arange(1000) if samples is None else samples
    return Augmented(Counting(), augmentation, kinds=KINDS, seed=seed).draw(samples)


def test_delete_drops_a_tenth_and_keeps_the_order() -> None:
    rows = augmented(Augmentation(delete=0.1)).queries
    assert abs(len(rows.values_T) / 60_000 - 0.9) < 0.01
    assert all(row == sorted(row) for row in rows.to_lists())
    assert rows.lengths_N.std() > 1  # each row draws for itself


def test_replace_and_mask_keep_the_length() -> None:
    rows = augmented(Augmentation(replace=0.2, mask=0.1)).keys
    assert rows.lengths_N.tolist() == [60] * 2000
    changed = rows.values_T != np.tile(np.arange(60) + 600, 2000)
    masked = rows.values_T == 3
    replaced = rows.values_T[changed & ~masked]
    assert abs(masked.mean() - 0.1) < 0.01
    assert abs(len(replaced) / len(changed) - 0.2) < 0.01
    assert (replaced.min(), replaced.max()) == (50_000, 59_999)
    assert len(np.unique(replaced)) > 8_000


def test_delete_replace_and_mask_share_one_draw() -> None:
    rows = augmented(Augmentation(delete=0.5, replace=0.25, mask=0.25)).queries
    assert not set(rows.values_T.tolist()) & set(range(300, 360))
    assert abs((rows.values_T == 3).mean() - 0.5) < 0.02


def test_shuffle_moves_only_the_chosen_share_within_each_row() -> None:
    rows = augmented(Augmentation(shuffle=0.3)).queries
    moved = rows.values_T != np.tile(np.arange(60) + 300, 1000)
    assert all(sorted(row) == list(range(300, 360)) for row in rows.to_lists())
    assert 0.25 < moved.mean() < 0.31  # a chosen token may fall back on its own place
    everything = augmented(Augmentation(shuffle=1.0)).queries
    assert everything.to_lists()[0] != everything.to_lists()[1]
    first_places = np.array([row.index(300) for row in everything.to_lists()])
    assert abs(first_places.mean() - 29.5) < 2.5


def test_whole_words_stay_together() -> None:
    """Words are three tokens: 300 301 302, 303 304 305, ..."""
    deleted = augmented(Augmentation(delete=0.3, whole_words=True)).queries
    for row in deleted.to_lists():
        assert all(row[place : place + 3] == list(range(row[place], row[place] + 3)) for place in range(0, len(row), 3))
    shuffled = augmented(Augmentation(shuffle=1.0, whole_words=True)).queries
    for row in shuffled.to_lists():
        assert all(row[place : place + 3] == list(range(row[place], row[place] + 3)) for place in range(0, 60, 3))
    assert shuffled.to_lists()[0] != list(range(300, 360))


def test_a_row_never_loses_everything() -> None:
    rows = augmented(Augmentation(delete=1.0)).queries
    assert rows.to_lists() == [[300]] * 1000


def test_noise_is_a_function_of_seed_sample_and_view() -> None:
    every = Augmentation(delete=0.2, replace=0.2, mask=0.1, shuffle=0.3)
    whole = augmented(every)
    some = augmented(every, np.array([5, 900]))
    assert some.queries.to_lists() == whole.take(np.array([5, 900])).queries.to_lists()
    assert some.keys.to_lists() == whole.take(np.array([5, 900])).keys.to_lists()
    assert augmented(every, seed=1).queries.to_lists() != whole.queries.to_lists()
    first_key, second_key = some.keys.to_lists()[:2]
    assert first_key != second_key


def test_place_bits_are_uniform_and_unrelated_between_neighbours() -> None:
    rows = Ragged.of([np.arange(100)] * 2000)
    bits = place_bits(0, "x", np.arange(2000), np.zeros(2000, dtype=int), rows, rows.places_T) / 2.0**32
    table = bits.reshape(2000, 100)
    np.testing.assert_allclose(np.histogram(bits, bins=16, range=(0, 1))[0] / len(bits), 1 / 16, atol=0.003)
    assert abs(np.corrcoef(table[:, :-1].ravel(), table[:, 1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 0.01
    assert abs(table.mean(axis=1).std() - 1 / (12 * 100) ** 0.5) < 0.002


def test_probabilities_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"augmentation delete must be a probability, is 1\.5"):
        Augmentation(delete=1.5)
    with pytest.raises(ConfigError, match="delete, replace and mask add up to"):
        Augmentation(delete=0.6, mask=0.6)
    with pytest.raises(ConfigError, match="needs a tokenizer with a mask token"):
        Augmented(Counting(), Augmentation(mask=0.1), kinds=TokenKinds(None, np.arange(5), KINDS.words), seed=0)


def test_kinds_of_a_real_tokenizer(tokenizer: Any) -> None:
    kinds = TokenKinds.of(tokenizer)
    assert kinds.mask_id == tokenizer.mask_token_id
    assert not set(kinds.ordinary_ids.tolist()) & set(tokenizer.all_special_ids)
    assert len(kinds.ordinary_ids) == len(tokenizer) - len(tokenizer.all_special_ids)
