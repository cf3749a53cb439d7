"""Threads in which torch takes one core each: cores that share one operation wait for each other after it."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

Apply = Callable[..., Iterator[Any]]


@contextlib.contextmanager
def pool_of_cores() -> Iterator[ThreadPoolExecutor]:
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)  # the pool's threads took one each, and with that what later threads begin with


@contextlib.contextmanager
def side_by_side(parts: int, device: torch.device) -> Iterator[Apply]:
    """What `map` does; on a CPU with each core at a part."""
    if device.type != "cpu" or min(torch.get_num_threads(), parts) == 1:
        yield map
        return
    with pool_of_cores() as pool:
        yield pool.map
