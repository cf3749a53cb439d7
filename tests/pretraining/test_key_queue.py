"""The ring of keys against a plain list that keeps the newest."""

import pytest
import torch

from mcontriever.errors import ConfigError, ModelError
from mcontriever.pretraining.key_queue import KeyQueue


@pytest.mark.parametrize("size", [1, 7, 10, 64])
@pytest.mark.parametrize("batches", [[3, 3, 3, 3, 3, 3], [10, 1, 25, 4, 7, 7, 2], [64], [65, 129]])
def test_it_holds_the_newest_keys_whatever_the_batch_sizes(size: int, batches: list[int]) -> None:
    queue, newest, number = KeyQueue(size, 2), [], 0
    for rows in batches:
        numbers = torch.arange(number, number + rows)
        queue.append(numbers[:, None] * torch.tensor([1.0, 10.0]), numbers + 100, numbers % 5)
        newest, number = (newest + numbers.tolist())[-size:], number + rows
        held = queue.negatives()
        assert len(queue) == len(newest)
        assert sorted(held.keys_KH[:, 0].tolist()) == newest
        assert torch.equal(held.keys_KH[:, 1], held.keys_KH[:, 0] * 10)
        assert torch.equal(held.text_K, held.keys_KH[:, 0].long() + 100)
        assert torch.equal(held.language_K, held.keys_KH[:, 0].long() % 5)


def test_a_restored_queue_continues_at_its_place() -> None:
    queue = KeyQueue(5, 1)
    queue.append(torch.arange(7.0)[:, None], torch.arange(7), torch.zeros(7, dtype=torch.long))
    other = KeyQueue(5, 1)
    other.load_state({name: value.clone() for name, value in queue.state().items()})
    for each in (queue, other):
        each.append(torch.tensor([[7.0], [8.0]]), torch.tensor([7, 8]), torch.zeros(2, dtype=torch.long))
    assert torch.equal(queue.keys_KH, other.keys_KH)
    assert sorted(other.negatives().text_K.tolist()) == [4, 5, 6, 7, 8]


def test_another_size_is_refused() -> None:
    with pytest.raises(ModelError, match=r"the checkpoint's queue is \[5, 1\], this run's \[6, 1\]"):
        KeyQueue(6, 1).load_state(KeyQueue(5, 1).state())
    with pytest.raises(ConfigError, match="queue size 0 is less than 1"):
        KeyQueue(0, 1)
