"""The processes of a run's other ranks. When one dies, the others' collectives fail: that error is only a consequence.

Gloo raises a bare RuntimeError for it, with several texts, so the processes themselves are checked.
"""

import os
import socket
import time
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from mcontriever.errors import UserError

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0  # a process that ends closes its connections a little before it is gone


@dataclass(frozen=True)
class Peers:
    """By rank, the processes on this machine: those of other machines cannot be seen."""

    processes: dict[int, psutil.Process]

    @classmethod
    def meet(cls) -> "Peers":
        """Collective."""
        everyone: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, (socket.gethostname(), os.getpid()))
        here = {rank: pid for rank, (host, pid) in enumerate(everyone) if host == socket.gethostname()}
        return cls({rank: psutil.Process(pid) for rank, pid in here.items() if pid != os.getpid()})

    def explain(self, error: RuntimeError) -> None:
        """Raise what the user should read instead, if a peer has died; return if `error` is this process's own."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.processes and time.monotonic() < until:
            dead = [rank for rank, process in self.processes.items() if not _lives(process)]
            if dead:
                raise UserError(
                    f"this process stopped because the process of rank {dead[0]} did", fix="see its message"
                ) from error
            time.sleep(POLL_SECONDS)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
