"""Views of windows: their lengths, places and randomness, against plain Python on the windows themselves."""

from typing import Any

import numpy as np
import pytest

from mcontriever.errors import ConfigError
from mcontriever.pretraining.crops import CropSource, IndependentCrops, InverseCloze
from mcontriever.pretraining.pairs import PairLoader
from mcontriever.ragged import Ragged
from mcontriever.tokens import SpecialTokens, prefix_tokens


def windows(count: int = 400) -> Ragged:
    """Window i holds 1000 * i, 1000 * i + 1, ...: a token tells its window and its place."""
    lengths = np.random.default_rng(0).integers(1, 257, size=count)
    return Ragged.of([1000 * number + np.arange(length) for number, length in enumerate(lengths)])


def is_span(tokens: list[int]) -> bool:
    return tokens == list(range(tokens[0], tokens[0] + len(tokens)))


class WholeWindows:
    """Stands for a store and a sampler: sample i is window i."""

    languages = ("en",)

    def __init__(self, rows: Ragged) -> None:
        self.rows = rows

    def draw(self, samples: np.ndarray) -> Any:
        self.language, self.window, self.phase = np.zeros_like(samples), samples, np.zeros_like(samples)
        return self

    def windows(self, language: np.ndarray, window: np.ndarray, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        taken = self.rows.take(window)
        return taken.values_T, taken.lengths_N


def test_crops_are_spans_of_their_window_with_lengths_in_the_ratio_range() -> None:
    rows = windows()
    samples = np.arange(len(rows))
    queries, keys = IndependentCrops(0.1, 0.5, keys_per_query=3)(rows, samples, seed=1)
    assert (len(queries), len(keys)) == (400, 1200)
    for crops, repeats in ((queries, 1), (keys, 3)):
        for number, crop in enumerate(crops.to_lists()):
            window, length = number // repeats, rows.lengths_N[number // repeats]
            assert is_span(crop)
            assert 1000 * window <= crop[0] <= crop[-1] < 1000 * window + length
            assert max(1, int(0.1 * length)) <= len(crop) <= max(1, 0.5 * length)


def test_places_and_lengths_are_uniform() -> None:
    lengths = np.full(20000, 256)
    first, span = IndependentCrops(0.1, 0.5).places(lengths, np.arange(20000), seed=3)
    assert abs((span / 256).mean() - 0.3) < 0.003
    assert abs((span / 256).std() - 0.4 / 12**0.5) < 0.003
    reached = (first / (256 - span)).ravel()
    np.testing.assert_allclose(np.histogram(reached, bins=4, range=(0, 1))[0] / len(reached), 0.25, atol=0.01)
    assert abs(np.corrcoef(span[:, 0], span[:, 1])[0, 1]) < 0.02
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.1


def test_a_sample_is_the_same_in_any_batch_and_another_with_another_seed() -> None:
    rows = windows()
    source = CropSource(WholeWindows(rows), WholeWindows(rows), IndependentCrops(0.05, 0.5, 2), seed=5)
    everything = source.draw(np.arange(400))
    some = source.draw(np.array([7, 300, 42]))
    expected = everything.take(np.array([7, 300, 42]))
    assert some.queries.to_lists() == expected.queries.to_lists()
    assert some.keys.to_lists() == expected.keys.to_lists()
    assert some.text_B.tolist() == [7, 300, 42]
    other = CropSource(WholeWindows(rows), WholeWindows(rows), IndependentCrops(0.05, 0.5, 2), seed=6)
    assert other.draw(np.arange(400)).queries.to_lists() != everything.queries.to_lists()


def test_inverse_cloze_takes_the_query_out_of_its_key_nine_times_in_ten() -> None:
    rows = Ragged.of([1000 * number + np.arange(100) for number in range(5000)])
    queries, keys = InverseCloze(0.1, 0.5)(rows, np.arange(5000), seed=2)
    kept = 0
    for window, query, key in zip(rows.to_lists(), queries.to_lists(), keys.to_lists(), strict=True):
        assert is_span(query)
        if key == window:
            kept += 1
        else:
            assert sorted(query + key) == window
            assert key == [token for token in window if token not in set(query)]
    assert 0.085 < kept / 5000 < 0.115


def test_inverse_cloze_never_leaves_a_key_empty() -> None:
    queries, keys = InverseCloze(1.0, 1.0, keep_probability=0.0)(Ragged.of([[5], [6, 7]]), np.arange(2), seed=0)
    assert queries.to_lists() == keys.to_lists() == [[5], [6, 7]]


def test_ratios_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"crop ratios 0\.5 to 0\.1 are not 0 < min <= max <= 1"):
        IndependentCrops(0.5, 0.1)
    with pytest.raises(ConfigError, match="keys_per_query 0 is not between 1 and 63"):
        IndependentCrops(0.1, 0.5, keys_per_query=0)
    with pytest.raises(ConfigError, match="keep_probability 2"):
        InverseCloze(0.1, 0.5, keep_probability=2)


def test_the_loader_adds_special_tokens_and_counts_what_it_cuts() -> None:
    rows = Ragged.of([np.arange(10, 50)] * 4)
    source = CropSource(WholeWindows(rows), WholeWindows(rows), IndependentCrops(0.5, 0.5), seed=0)
    special = SpecialTokens(begin_id=0, end_id=2, pad_id=1, mask_id=3, unknown_id=4)
    batch = PairLoader(source, special=special, first_position=2, max_length=12).batch(np.arange(4))
    assert (len(batch), batch.keys_per_query) == (4, 1)
    assert batch.queries.lengths_N.tolist() == [12] * 4
    assert batch.queries.token_ids_T[[0, 11]].tolist() == [0, 2]
    assert batch.sample_B.tolist() == [0, 1, 2, 3]
    assert batch.stats() == {"tokens": 96.0, "rows": 8.0, "truncated": 8.0, "padding_saved": 0.0}


def test_the_loader_puts_the_encoders_prefixes_before_every_text() -> None:
    rows = Ragged.of([np.arange(10, 50)] * 4)
    source = CropSource(WholeWindows(rows), WholeWindows(rows), IndependentCrops(0.1, 0.5), seed=0)
    settings = {"special": SpecialTokens(0, 2, 1, 3, 4), "first_position": 2, "max_length": 42}
    plain = PairLoader(source, **settings).batch(np.arange(4))
    prefixed = PairLoader(source, **settings, query_prefix=[7, 8], key_prefix=[9]).batch(np.arange(4))
    for before, after, prefix in ((plain.queries, prefixed.queries, [7, 8]), (plain.keys, prefixed.keys, [9])):
        for row in range(4):
            old, new = (one.slice(row, row + 1).token_ids_T.tolist() for one in (before, after))
            assert new == [old[0], *prefix, *old[1:]]
    assert prefixed.stats()["truncated"] == 0


def test_a_prefix_before_tokens_is_the_prefix_before_the_text(tokenizer: Any, sentences: dict[str, list[str]]) -> None:
    for text in [*sentences["sw"], *sentences["en"]]:
        whole = tokenizer("query: " + text, add_special_tokens=False)["input_ids"]
        assert prefix_tokens(tokenizer, "query: ") + tokenizer(text, add_special_tokens=False)["input_ids"] == whole
    assert prefix_tokens(tokenizer, "") == []
