"""Threads in which torch uses one core each, because cores that share one operation wait for each other after it.

The process keeps one pool. Setting a thread's number of cores also sets it for all threads that start later, so a pool
per call would leave its callers' threads with one core.
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
    """A `map`; on a CPU each core works on its own part."""
    if device.type != "cpu" or min(torch.get_num_threads(), parts) == 1:
        return map
    return pool_of_cores().map


def pool_of_cores() -> ThreadPoolExecutor:
    """One thread per core that torch may use."""
    cores = torch.get_num_threads()
    with _lock:
        if cores not in _pools:
            _pools[cores] = _started(cores)
        return _pools[cores]


def _started(cores: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(cores, initializer=_take_one_core)
    all_there = threading.Barrier(cores + 1)
    try:
        for _ in range(cores):
            pool.submit(all_there.wait)
        all_there.wait()
    except BaseException:  # Ctrl-C: threads left waiting would keep the process from ending
        all_there.abort()
        pool.shutdown(wait=False)
        raise
    torch.set_num_threads(cores)
    return pool


def _take_one_core() -> None:
    torch.get_num_threads()  # a thread's first call resets its number of cores, so it must come before setting it
    torch.set_num_threads(1)


def _forget() -> None:
    """A forked process does not have its parent's threads."""
    global _lock
    _pools.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
