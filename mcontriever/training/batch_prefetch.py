"""Batches made one ahead, in a thread, so that a step need not wait for data; how long it did wait is measured."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key")
Batch = TypeVar("Batch")
DEPTH = 2


class Prefetch(Generic[Key, Batch]):
    """Iterate over `make(key)` for each key; an error in the thread is raised where the batch is asked for."""

    def __init__(self, keys: Iterable[Key], make: Callable[[Key], Batch]) -> None:
        self._waited_seconds = 0.0
        self._ready: queue.Queue[tuple[Batch | None, BaseException | None]] = queue.Queue(DEPTH)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(keys, make), name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        batch, error = self._ready.get()
        self._waited_seconds += time.perf_counter() - started
        if error is not None:
            raise error
        assert batch is not None
        return batch

    def take_waited_seconds(self) -> float:
        """How long `next` had to wait since this was last asked."""
        waited, self._waited_seconds = self._waited_seconds, 0.0
        return waited

    def close(self) -> None:
        self._closed.set()
        while self._thread.is_alive():
            with_room = not self._ready.empty()
            if with_room:
                self._ready.get()
            self._thread.join(timeout=0.05)

    def _work(self, keys: Iterable[Key], make: Callable[[Key], Batch]) -> None:
        try:
            for key in keys:
                if self._closed.is_set():
                    return
                self._ready.put((make(key), None))
            self._ready.put((None, StopIteration()))
        except BaseException as error:
            self._ready.put((None, error))
