"""Which window is sample i of an endless run: a pure function of (seed, i), so any rank, world or step is one jump.

Languages share the samples by p ∝ n^alpha (n windows; alpha 0 is uniform as mContriever, 0.3 as XLM-R). The run is
divided into blocks of S samples. In every block a language has the same number of places, its quota, and a keyed
permutation of the block assigns the places. So the k-th sample of a language is known by arithmetic:

    k = block * quota + how many of its places in this block came before
    epoch, position = divmod(k, n)          each window once per epoch
    window = permuted(position)             in an order that is keyed by (seed, language, epoch) and never stored
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mcontriever.chance import permuted, random_bits
from mcontriever.errors import DataError
from mcontriever.progress import log

Int64Array = npt.NDArray[np.int64]

SMALLEST_BLOCK = 1 << 12
LARGEST_BLOCK = 1 << 16
CACHED_BLOCKS = 16


@dataclass(frozen=True)
class Samples:
    """One entry per sample: which language and window, in which epoch of that language, and the epoch's phase."""

    language: Int64Array
    window: Int64Array
    epoch: Int64Array
    phase: npt.NDArray[np.uint64]


class WindowSampler:
    """`draw([i, ...])` gives the windows of these samples; `shares` is the part of a run that each language gets."""

    def __init__(
        self,
        window_counts: Mapping[str, int],
        *,
        alpha: float = 0.0,
        factors: Mapping[str, float] | None = None,
        samples_together: int = 1,
        seed: int = 0,
    ) -> None:
        """`factors` multiply the shares of single languages; `samples_together` samples in a row share a language."""
        empty = [language for language, count in window_counts.items() if count <= 0]
        if empty or not window_counts:
            raise DataError(
                f"no windows to sample in {', '.join(empty) or 'any language'}",
                fix="omit these languages, or prepare more text",
            )
        self.languages = list(window_counts)
        self.seed = seed
        self.samples_together = samples_together
        self._counts = np.array(list(window_counts.values()), dtype=np.int64)
        strangers = sorted(set(factors or {}) - set(self.languages))
        if strangers:
            raise DataError(
                f"language factors for {', '.join(strangers)}, but the data has {', '.join(self.languages)}",
                fix="omit these factors",
            )
        weights = self._counts.astype(np.float64) ** alpha
        weights *= [(factors or {}).get(language, 1.0) for language in self.languages]
        ideal = weights / weights.sum()
        self.block_size = _block_size(float(ideal.min()))
        self._quotas = quotas(ideal, self.block_size)
        self._cached_block = lru_cache(maxsize=CACHED_BLOCKS)(self._block)
        self.shares = dict(zip(self.languages, (self._quotas / self.block_size).tolist(), strict=True))
        for language, wanted, share in zip(self.languages, ideal, self.shares.values(), strict=True):
            if share > 2 * wanted:
                log.warning("%s: its share of %.2g is raised to %.2g, one sample in a block", language, wanted, share)

    def draw(self, indices: npt.ArrayLike) -> Samples:
        indices = np.asarray(indices, dtype=np.int64)
        assert np.all(indices >= 0)
        runs, place_in_run = np.divmod(indices, self.samples_together)
        blocks, places = np.divmod(runs, self.block_size)
        language, earlier = np.empty_like(indices), np.empty_like(indices)
        for block in np.unique(blocks):
            here = blocks == block
            language_of_place, earlier_of_place = self._cached_block(int(block))
            language[here] = language_of_place[places[here]]
            earlier[here] = earlier_of_place[places[here]]
        own_run = blocks * self._quotas[language] + earlier
        epoch, position = np.divmod(own_run * self.samples_together + place_in_run, self._counts[language])
        window = permuted(self.seed, "window order", self._counts[language], position, language, epoch)
        return Samples(language, window, epoch, random_bits(self.seed, "phase", language, epoch))

    def _block(self, block: int) -> tuple[Int64Array, Int64Array]:
        """For every place of a block: its language, and how many earlier places have the same language."""
        size = self.block_size
        slots = permuted(self.seed, "places", size, np.arange(size), block)
        language = np.searchsorted(np.cumsum(self._quotas), slots, side="right")
        by_language = np.argsort(language, kind="stable")
        starts = np.cumsum(self._quotas) - self._quotas
        earlier = np.empty(size, dtype=np.int64)
        earlier[by_language] = np.arange(size) - np.repeat(starts, self._quotas)
        return language, earlier


def _block_size(smallest_share: float) -> int:
    """The smallest size at which the smallest language has a place."""
    size = SMALLEST_BLOCK
    while size * smallest_share < 1 and size < LARGEST_BLOCK:
        size *= 2
    return size


def quotas(shares: npt.NDArray[np.float64], block_size: int) -> Int64Array:
    """Whole places by largest remainder, at least one for each share."""
    assert len(shares) <= block_size
    places = np.maximum(1, np.floor(shares * block_size)).astype(np.int64)
    owed = shares * block_size - places
    while (missing := block_size - int(places.sum())) != 0:
        change = 1 if missing > 0 else -1
        may_change = np.flatnonzero(places + change >= 1)
        chosen = may_change[np.argsort(-change * owed[may_change], kind="stable")][: abs(missing)]
        places[chosen] += change
        owed[chosen] -= change
    return places
