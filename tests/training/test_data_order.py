"""The order of samples against the plain statement of it: one rank, one micro step, counting up."""

from itertools import islice

import numpy as np
import pytest

from mcontriever.training.data_order import DataOrder


def seen_by_all(world_size: int, rows: int, micro_steps: int, updates: int, first: int = 0) -> list[list[int]]:
    """The samples of each update, over ranks and micro steps, sorted."""
    streams = [DataOrder(rank, world_size, rows, micro_steps).endlessly(first) for rank in range(world_size)]
    return [
        sorted(np.concatenate([part for stream in streams for part in islice(stream, micro_steps)]).tolist())
        for _ in range(updates)
    ]


@pytest.mark.parametrize(
    ("world_size", "rows", "micro_steps"), [(1, 12, 1), (2, 6, 1), (1, 3, 4), (2, 3, 2), (4, 1, 3)]
)
def test_every_division_of_a_batch_sees_the_same_samples_in_each_update(
    world_size: int, rows: int, micro_steps: int
) -> None:
    counted = [list(range(24 + 12 * update, 24 + 12 * update + 12)) for update in range(3)]
    assert seen_by_all(world_size, rows, micro_steps, updates=3, first=24) == counted


def test_two_ranks_and_one_rank_with_two_micro_steps_see_the_same_stretches() -> None:
    ranks = [DataOrder(rank, 2, 5, 1).samples(100)[0].tolist() for rank in (0, 1)]
    micro_steps = [samples.tolist() for samples in DataOrder(0, 1, 5, 2).samples(100)]
    assert ranks == micro_steps == [list(range(100, 105)), list(range(105, 110))]
