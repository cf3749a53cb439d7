"""What some work adds to the resident memory of a process of its own: anonymous pages, and mapped files.

    watched_memory(prepared_search, folder, queries)     {"beyond_the_mapped_files_MB": 46.8, "mapped_files_MB": 1553.4}

`prepare(*arguments)` runs in that process, unwatched, and returns the work. It must stand at the top of its module.
"""

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_LOOKS = 0.003


def watched_memory(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_watch, args=(sender, prepare, arguments))
    process.start()
    grown = receiver.recv()
    process.join()
    return {
        "beyond_the_mapped_files_MB": round(grown["RssAnon"] / 1e6, 1),
        "mapped_files_MB": round(grown["RssFile"] / 1e6, 1),
    }


def _watch(sender: Connection, prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> None:
    work = prepare(*arguments)
    before, peak, done = _resident_bytes(), _resident_bytes(), threading.Event()

    def look() -> None:
        while not done.wait(SECONDS_BETWEEN_LOOKS):
            for name, value in _resident_bytes().items():
                peak[name] = max(peak[name], value)

    watcher = threading.Thread(target=look)
    watcher.start()
    work()
    done.set()
    watcher.join()
    sender.send({name: peak[name] - before[name] for name in before})


def _resident_bytes() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssFile"))
    }
