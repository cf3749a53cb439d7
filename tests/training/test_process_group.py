"""Joining the process group: what is said without DeepSpeed, and how cores are shared."""

import sys

import pytest
import torch

from mcontriever.errors import RunError
from mcontriever.training.process_group import join_process_group, share_cores


def test_without_deepspeed_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(RunError, match="DeepSpeed cannot be imported") as caught:
        join_process_group()
    assert "pip install deepspeed" in str(caught.value)


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
