"""Threads in which torch takes one core each: cores that share one operation wait for each other after it.

One pool lives as long as the process. Telling a thread how many cores torch may take tells all threads that begin
later, so a pool for each call would leave some of its callers' threads with one core for good.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

Apply = Callable[..., Iterator[Any]]
_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def side_by_side(parts: int, device: torch.device) -> Apply:
    """What `map` does; on a CPU with each core at a part."""
    if device.type != "cpu" or min(torch.get_num_threads(), parts) == 1:
        return map
    return pool_of_cores().map


def pool_of_cores() -> ThreadPoolExecutor:
    """With as many threads as torch may take cores."""
    cores = torch.get_num_threads()
    with _lock:
        if cores not in _pools:
            _pools[cores] = _started(cores)
        return _pools[cores]


def _started(cores: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(cores, initializer=_take_one_core)
    all_there = threading.Barrier(cores + 1)
    for _ in range(cores):
        pool.submit(all_there.wait)
    all_there.wait()
    torch.set_num_threads(cores)
    return pool


def _take_one_core() -> None:
    torch.get_num_threads()  # a thread's first question gives it the cores that all may take, and undoes what was set
    torch.set_num_threads(1)


def _forget() -> None:
    """A forked process has none of its parent's threads."""
    global _lock
    _pools.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
