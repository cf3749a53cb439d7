"""Threads in which torch takes one core each: cores that share one operation wait for each other after it."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


@contextlib.contextmanager
def pool_of_cores() -> Iterator[ThreadPoolExecutor]:
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)  # the pool's threads took one each, and with that what later threads begin with
