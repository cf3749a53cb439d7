"""Several ranks on this machine without a launcher: one process each, with DeepSpeed's environment variables."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from mcontriever.child_processes import end_with_parent
from mcontriever.errors import RunError, UserError
from mcontriever.progress import log, setup_logging

POLL_SECONDS = 0.1


def run_ranks(work: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Run `work(*arguments)` in every rank; the first failure stops the others and is raised here."""
    context = multiprocessing.get_context("spawn")
    ranks: list[Any] = []
    try:
        for rank in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            given = (rank, processes, sender, log.level, work, arguments)
            process = context.Process(target=_rank, args=given, daemon=True)
            process.start()
            sender.close()
            ranks.append((process, receiver))
        while any(process.is_alive() for process, _ in ranks):
            _raise_failure(ranks)
            time.sleep(POLL_SECONDS)
        _raise_failure(ranks)
    finally:
        for process, _ in ranks:
            if process.is_alive():
                process.terminate()
            process.join()


def _rank(
    rank: int, world: int, failure: Connection, level: int, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(world))
    end_with_parent()
    setup_logging(quiet=rank > 0)
    if rank == 0:
        log.setLevel(level)
    try:
        work(*arguments)
    except UserError as error:
        failure.send((type(error), error.what, error.where, error.fix))
        raise SystemExit(2) from error


def _raise_failure(ranks: list[Any]) -> None:
    for number, (process, receiver) in enumerate(ranks):
        if process.exitcode in (None, 0):
            continue
        if process.exitcode == 2 and receiver.poll():
            kind, what, where, fix = receiver.recv()
            raise kind(what, where=where, fix=fix)
        raise RunError(
            f"process {number} of {len(ranks)} ended with code {process.exitcode}",
            fix="see its message above; run the same command again to resume",
        )
