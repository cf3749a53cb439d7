"""The example at each place of an endless run: a pure function of (seed, sample index), without stored state.

Shapes: R samples asked for.
"""

from dataclasses import dataclass

import numpy as np

from mcontriever.chance import permuted


@dataclass(frozen=True)
class ShuffledOrder:
    """Every example once an epoch, in a new order each epoch; with `most`, so many of them, drawn once by the seed."""

    examples: int
    seed: int
    most: int | None = None

    def examples_of(self, samples_R: np.ndarray) -> np.ndarray:
        used = min(self.examples, self.most or self.examples)
        epochs_R, places_R = np.divmod(samples_R, used)
        shuffled_R = permuted(self.seed, "example order", used, places_R, epochs_R)
        if used == self.examples:
            return shuffled_R
        return permuted(self.seed, "few examples", self.examples, shuffled_R, 0)
