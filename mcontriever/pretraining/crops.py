"""Two views of one window: independent crops, or the inverse cloze task, a whole batch at a time in numpy.

    source = CropSource(store, sampler, IndependentCrops(min_ratio=0.1, max_ratio=0.5), seed=0)
    loader = PairLoader(source, special=encoder.special, first_position=encoder.first_position, max_length=256)
    batch = loader.batch(np.arange(64))

Every choice about a sample is a function of (seed, sample, view): view 0 is the query, views 1 to n are its keys.
A window is inside one document, so no view ever joins two.

Shapes: B windows, V views of each (1 + n), T tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mcontriever import chance
from mcontriever.errors import ConfigError
from mcontriever.pretraining.pairs import MOST_VIEWS, TokenPairs
from mcontriever.pretraining.sampling import WindowSampler
from mcontriever.ragged import IntArray, Ragged, spans

HALF, LOWER_HALF = np.uint64(32), np.uint64(2**32 - 1)
LANGUAGE_SHIFT = 40  # a text's number: its language, and below that its window


class View(Protocol):
    def __call__(self, windows: Ragged, samples: IntArray, seed: int) -> tuple[Ragged, Ragged]:
        """Queries [B] and keys [B * n] of these windows."""


class Windows(Protocol):
    """What a token store is to crops; see token_shards.py."""

    @property
    def languages(self) -> list[str]: ...

    def windows(
        self, language_N: IntArray, window_N: IntArray, phase_N: npt.NDArray[np.uint64]
    ) -> tuple[IntArray, IntArray]: ...


class CropSource:
    """Pairs of views of one window; the sampler says which window a sample is, the store holds its tokens."""

    def __init__(self, store: Windows, sampler: WindowSampler, view: View, *, seed: int) -> None:
        assert store.languages == sampler.languages, "the sampler's language numbers are not the store's"
        self.store = store
        self.sampler = sampler
        self.view = view
        self.seed = seed

    def draw(self, samples: IntArray) -> TokenPairs:
        drawn = self.sampler.draw(samples)
        windows = Ragged.of_lengths(*self.store.windows(drawn.language, drawn.window, drawn.phase))
        queries, keys = self.view(windows, samples, self.seed)
        return TokenPairs(queries, keys, drawn.language, drawn.language << LANGUAGE_SHIFT | drawn.window)


@dataclass(frozen=True)
class IndependentCrops:
    """Query and keys are spans of the window, each with its own place and length (a share of the window's)."""

    min_ratio: float
    max_ratio: float
    keys_per_query: int = 1

    def __post_init__(self) -> None:
        _check_ratios(self.min_ratio, self.max_ratio)
        if not 1 <= self.keys_per_query < MOST_VIEWS:
            raise ConfigError(f"keys_per_query {self.keys_per_query} is not between 1 and {MOST_VIEWS - 1}")

    def __call__(self, windows: Ragged, samples: IntArray, seed: int) -> tuple[Ragged, Ragged]:
        first_BV, lengths_BV = self.places(windows.lengths_N, samples, seed)
        flat_BV = first_BV + windows.starts_N[:, None]

        def crops(views: slice) -> Ragged:
            lengths_N = lengths_BV[:, views].ravel()
            return Ragged.of_lengths(windows.values_T[spans(flat_BV[:, views].ravel(), lengths_N)], lengths_N)

        return crops(slice(0, 1)), crops(slice(1, None))

    def places(self, lengths_B: IntArray, samples: IntArray, seed: int) -> tuple[IntArray, IntArray]:
        """Where each view starts in its window, and how long it is."""
        views_V = np.arange(1 + self.keys_per_query)
        return _random_spans(lengths_B[:, None], samples[:, None], views_V, seed, self.min_ratio, self.max_ratio)


@dataclass(frozen=True)
class InverseCloze:
    """The query is a span of the window, the key the rest; in `keep_probability` of samples the key is the whole."""

    min_ratio: float
    max_ratio: float
    keep_probability: float = 0.1

    def __post_init__(self) -> None:
        _check_ratios(self.min_ratio, self.max_ratio)
        if not 0 <= self.keep_probability <= 1:
            raise ConfigError(f"keep_probability {self.keep_probability} is not between 0 and 1")

    def __call__(self, windows: Ragged, samples: IntArray, seed: int) -> tuple[Ragged, Ragged]:
        lengths_B = windows.lengths_N
        first_B, span_B = _random_spans(lengths_B, samples, 0, seed, self.min_ratio, self.max_ratio)
        keep_B = chance.uniform(seed, "inverse cloze keep", samples) < self.keep_probability
        keep_B |= span_B == lengths_B  # a key must not be empty
        before_B = np.where(keep_B, lengths_B, first_B)
        after_B = np.where(keep_B, 0, lengths_B - first_B - span_B)
        two_spans = spans(
            (windows.starts_N[:, None] + np.stack([np.zeros_like(first_B), first_B + span_B], 1)).ravel(),
            np.stack([before_B, after_B], 1).ravel(),
        )
        return windows.cut(first_B, span_B), Ragged.of_lengths(windows.values_T[two_spans], before_B + after_B)


def _random_spans(
    lengths: IntArray, samples: IntArray, views: IntArray | int, seed: int, min_ratio: float, max_ratio: float
) -> tuple[IntArray, IntArray]:
    """One draw of 64 bits for each view: the upper half gives the length, the lower half the place."""
    bits = chance.random_bits(seed, "crop", samples * MOST_VIEWS + views)  # one number mixes faster than two
    ratio = min_ratio + (max_ratio - min_ratio) * ((bits >> HALF) / 2.0**32)
    span_lengths = np.maximum((ratio * lengths).astype(np.int64), 1)
    places = (lengths - span_lengths + 1).astype(np.uint64)
    return ((bits & LOWER_HALF) * places >> HALF).astype(np.int64), span_lengths


def _check_ratios(min_ratio: float, max_ratio: float) -> None:
    if not 0 < min_ratio <= max_ratio <= 1:
        raise ConfigError(
            f"crop ratios {min_ratio} to {max_ratio} are not 0 < min <= max <= 1",
            fix="mContriever used 0.1 to 0.5, the English Contriever 0.05 to 0.5",
        )
