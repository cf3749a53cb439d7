"""Run a function as rank 0 and rank 1 of a gloo group, in two processes that stay warm for the next test.

Or start it as DeepSpeed's launcher does, which takes 15 processor seconds more for its imports and its ranks'.
"""

import functools
import os
import socket
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.warm_processes import CONTEXT

WORLD = 2


def free_port() -> int:
    """Other tests may run beside these, so no port is fixed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_as_launched(function: Callable[..., Any], *arguments: Any, world: int = WORLD) -> list[ForkServerProcess]:
    """Processes of their own with the environment that the launcher gives its ranks."""
    shared = {"WORLD_SIZE": world, "LOCAL_SIZE": world, "MASTER_PORT": free_port()}
    places = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(world)]
    ranks = [CONTEXT.Process(target=_with_environment, args=(place, function, arguments)) for place in places]
    for rank in ranks:
        rank.start()
    return ranks


def _with_environment(place: dict[str, int], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    function(*arguments)


def on_two_ranks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returned on rank 0 and on rank 1. It must stand at the top of its module."""
    return _run(_warm_processes(), function, arguments)


def on_two_new_ranks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The same in processes of their own, for what leaves traces in a process (DeepSpeed)."""
    with _new_processes() as processes:
        return _run(processes, function, arguments)


@functools.cache
def _warm_processes() -> ProcessPoolExecutor:
    return _new_processes()


def _new_processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORLD, mp_context=CONTEXT)


def _run(processes: ProcessPoolExecutor, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        meeting_point = str(Path(folder) / "ranks")
        futures = [processes.submit(_as_rank, rank, meeting_point, function, arguments) for rank in range(WORLD)]
        return [future.result(timeout=600) for future in futures]


def _as_rank(rank: int, meeting_point: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=WORLD)
    try:
        return function(*arguments)
    finally:
        torch.distributed.destroy_process_group()
