"""The example at each place of an endless run: a pure function of (seed, sample index), without stored state.

Shapes: R samples asked for.
"""

from dataclasses import dataclass

import numpy as np

from mcontriever.chance import permuted


@dataclass(frozen=True)
class ShuffledOrder:
    """Every example once an epoch, in a new order each epoch."""

    examples: int
    seed: int

    def examples_of(self, samples_R: np.ndarray) -> np.ndarray:
        epochs_R, places_R = np.divmod(samples_R, self.examples)
        return permuted(self.seed, "example order", self.examples, places_R, epochs_R)
