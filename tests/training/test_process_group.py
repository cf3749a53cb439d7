"""Joining the process group: what is said without DeepSpeed, and how cores are shared."""

import socket
import sys
from pathlib import Path

import pytest
import torch

from mcontriever.errors import RunError
from mcontriever.training.process_group import join_process_group, share_cores
from tests.conftest import RunCli
from tests.training.tiny_runs import tiny_values, write_config


def test_without_deepspeed_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(RunError, match="DeepSpeed cannot be imported") as caught:
        join_process_group()
    assert "pip install deepspeed" in str(caught.value)


def test_a_taken_port_is_one_message_with_the_remedy(run_cli: RunCli, tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", tiny_values(tmp_path / "run", tmp_path, tmp_path))
    with socket.socket() as other_run:
        other_run.bind(("127.0.0.1", 0))
        other_run.listen()
        port = str(other_run.getsockname()[1])
        place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        done = run_cli("train", "--config", config, **place)
    assert done.returncode == 2, done.stderr
    assert f"the processes cannot meet at 127.0.0.1:{port}" in done.stderr
    assert "deepspeed --master_port" in done.stderr
    assert "Traceback" not in done.stderr


def test_ranks_on_one_machine_share_its_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    try:
        monkeypatch.delenv("OMP_NUM_THREADS")
        for ranks, threads in ((1, 8), (2, 4), (3, 2), (16, 1)):
            share_cores(ranks)
            assert torch.get_num_threads() == threads
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        share_cores(2)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
