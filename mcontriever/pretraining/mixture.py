"""Several sources of pairs in one run, by weight, and still a pure function of the sample numbers.

    source = Mixture([(0.9, crops), (0.1, translations)], seed=0)

The run is divided into blocks of 1,000 samples. In every block each source has the same number of places, chosen by a
keyed permutation. So the samples of one source are numbered 0, 1, 2, ... without gaps, by arithmetic alone, and a
source that visits each of its texts once an epoch still does so.

With `samples_together` that many consecutive samples come from one source. If it is the batch size, all negatives in a
batch are of one kind, so that recognising the kind does not help.
"""

from collections.abc import Sequence

import numpy as np

from mcontriever.chance import permuted
from mcontriever.errors import ConfigError
from mcontriever.pretraining.pairs import PairSource, TokenPairs
from mcontriever.pretraining.sampling import quotas
from mcontriever.ragged import IntArray

BLOCK = 1000
SOURCE_SHIFT = 56  # texts of different sources are different texts


class Mixture:
    """Weights are rounded to a thousandth; they need not add up to 1."""

    def __init__(self, parts: Sequence[tuple[float, PairSource]], *, seed: int, samples_together: int = 1) -> None:
        weights = np.array([weight for weight, _ in parts], dtype=np.float64)
        if not len(weights) or (weights <= 0).any() or not np.isfinite(weights).all():
            raise ConfigError(
                f"the weights of a mixture are {weights.tolist()}", fix="give each source a weight above 0"
            )
        shares = weights / weights.sum()
        if (shares * BLOCK < 1).any():
            raise ConfigError(
                f"the weights {weights.tolist()} leave a source less than one sample in {BLOCK}",
                fix="raise the smallest weight, or omit its source",
            )
        self.places = quotas(shares, BLOCK)
        self.sources = [source for _, source in parts]
        self.seed = seed
        self.samples_together = samples_together

    def draw(self, samples: IntArray) -> TokenPairs:
        source_B, own_B = self.assign(samples)
        parts, rows = [], []
        for number in np.unique(source_B):
            of_source = np.flatnonzero(source_B == number)
            pairs = self.sources[number].draw(own_B[of_source])
            text_B = pairs.text_B | (np.int64(number) << SOURCE_SHIFT)
            parts.append(TokenPairs(pairs.queries, pairs.keys, pairs.language_B, text_B))
            rows.append(of_source)
        return TokenPairs.join(parts).take(np.argsort(np.concatenate(rows)))

    def assign(self, samples: IntArray) -> tuple[IntArray, IntArray]:
        """For each sample its source, and its number among the samples of that source."""
        run_B, place_in_run_B = np.divmod(samples, self.samples_together)
        block_B, place_B = np.divmod(run_B, BLOCK)
        slot_B = permuted(self.seed, "mixture", BLOCK, place_B, block_B)
        ends = np.cumsum(self.places)
        source_B = np.searchsorted(ends, slot_B, side="right")
        own_run_B = block_B * self.places[source_B] + slot_B - (ends - self.places)[source_B]
        return source_B, own_run_B * self.samples_together + place_in_run_B
