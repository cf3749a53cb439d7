"""Batches made ahead: in order, errors where they are asked for, nothing left running."""

import threading
import time
from itertools import count

import pytest

from mcontriever.training.batch_prefetch import DEPTH, Prefetch


def test_batches_come_in_order_and_end() -> None:
    assert list(Prefetch(range(10), lambda number: number * number)) == [number * number for number in range(10)]


def test_an_error_in_the_thread_is_raised_at_its_place() -> None:
    batches = Prefetch([1, 0, 2], lambda number: 6 // number)
    assert next(batches) == 6
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_no_more_is_made_than_is_asked_for_and_close_ends_the_thread() -> None:
    made: list[int] = []
    batches = Prefetch(count(), lambda number: made.append(number) or number)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.2)
    assert len(made) <= 3 + DEPTH + 1
    batches.close()
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}


def test_waiting_is_measured_once() -> None:
    batches = Prefetch(range(2), lambda number: time.sleep(0.05) or number)
    next(batches)
    assert batches.take_waited_seconds() > 0.01
    assert batches.take_waited_seconds() == 0.0
    batches.close()
