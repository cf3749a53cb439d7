"""Run one pure function over many arguments in N processes that never outlive their parent.

Processes are spawned, so that threads and locks of the parent do no harm. A worker that dies (out of memory, say) ends
the run with advice; the results of other workers are kept, because each call leaves its result on disk.
"""

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from mcontriever.child_processes import end_with_parent
from mcontriever.errors import RunError

TICK_SECONDS = 1.0


def available_cores() -> int:
    return len(os.sched_getaffinity(0))


def run_in_processes(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[int | None]:
    """Yield the index of each call as it ends, and None about once a second in between (for progress).

    The first error of a call stops the others and is raised here. A single worker runs in this process.
    """
    if workers <= 1 or len(calls) <= 1:
        for index, call in enumerate(calls):
            function(*call)
            yield index
        return
    others = set(multiprocessing.active_children())  # of the caller
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(calls)), mp_context=context, initializer=end_with_parent
    )
    try:
        waiting = {pool.submit(function, *call): index for index, call in enumerate(calls)}
        while waiting:
            done, _ = concurrent.futures.wait(waiting, TICK_SECONDS, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                future.result()
                yield waiting.pop(future)
            yield None
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process was killed, perhaps because memory ran out",
            fix="run the same command again (finished shards are kept), with fewer --workers if it happens again",
        ) from error
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        # Waited for, because Python 3.11 ends with a traceback if a broken pool is still closing its pipes.
        pool.shutdown(cancel_futures=True)
