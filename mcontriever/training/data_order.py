"""Which samples a rank sees at which moment: plain arithmetic on the number of samples seen so far.

    batch of update u      samples first, first + 1, ..., first + global_rows - 1, on any world size
    micro step m, rank r   the stretch of `rows` of them that starts at (m * world_size + r) * rows

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

    def samples(self, first: int, micro_step: int) -> np.ndarray:
        """The sample indices of this rank in one micro step of the update that begins at sample `first`."""
        start = first + (micro_step * self.world_size + self.rank) * self.rows
        return np.arange(start, start + self.rows, dtype=np.int64)

    def update_samples(self, first: int) -> np.ndarray:
        """All of an update's sample indices, over ranks and micro steps."""
        return np.arange(first, first + self.global_rows, dtype=np.int64)

    def endlessly(self, first: int) -> Iterator[np.ndarray]:
        """Every micro step from sample `first` on."""
        while True:
            for micro_step in range(self.micro_steps):
                yield self.samples(first, micro_step)
            first += self.global_rows
