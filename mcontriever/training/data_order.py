"""Which samples a rank sees when: arithmetic on the number of samples seen so far.

    update              samples first, first + 1, ..., first + global_rows - 1, on any world size
    micro step m        of rank r: the `rows` of them that start at (m * world_size + r) * rows

So two ranks with one micro step and one rank with two see the same samples in the same update.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DataOrder:
    rank: int
    world_size: int
    rows: int
    micro_steps: int

    @property
    def global_rows(self) -> int:
        return self.rows * self.micro_steps * self.world_size

    def samples(self, first: int) -> list[np.ndarray]:
        """This rank's sample numbers in each micro step of the update that starts at sample `first`."""
        starts = [first + (step * self.world_size + self.rank) * self.rows for step in range(self.micro_steps)]
        return [np.arange(start, start + self.rows, dtype=np.int64) for start in starts]

    def endlessly(self, first: int) -> Iterator[np.ndarray]:
        """Every micro step from sample `first` on."""
        while True:
            yield from self.samples(first)
            first += self.global_rows
