"""A rank that dies is recognised by its process, whatever the wording of the error that the others see."""

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from mcontriever.errors import UserError
from mcontriever.training.peers import Peers
from tests.warm_processes import CONTEXT


def as_rank(rank: int, meeting_point: str, answer: Connection) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=2)
    peers = Peers.meet()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        torch.distributed.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        try:
            peers.explain(error)
        except UserError as explained:
            answer.send(str(explained))


def test_a_killed_rank_is_named_by_the_other(tmp_path: Path) -> None:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    processes = [CONTEXT.Process(target=as_rank, args=(rank, str(tmp_path / "ranks"), sender)) for rank in range(2)]
    for process in processes:
        process.start()
    assert receiver.poll(120)
    assert receiver.recv() == "this process stopped because the process of rank 1 did\n  fix: see its message"
    for process in processes:
        process.join()
    assert processes[1].exitcode == -signal.SIGKILL


def test_an_error_of_ones_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    Peers({}).explain(RuntimeError("Connection closed by peer"))
