"""Run on two ranks for test_train_ranks.py: every ZeRO stage straight and in pieces, in one launch."""

import shutil
from pathlib import Path

from mcontriever import ranks, train
from mcontriever.assembly.training_config import load_train_config
from mcontriever.progress import setup_logging

STAGES = (0, 1, 2, 3)
# The batch alone: its division follows from the number of processes. Without dropout, which differs with the division.
WHOLE_BATCH = (
    "deepspeed.train_micro_batch_size_per_gpu=null",
    "deepspeed.torch_autocast.enabled=false",
    "encoder.dropout=0.0",
    "run.log_every=1",
)


def train_all(folder: Path) -> None:
    """`folder` holds tiny.yaml."""
    setup_logging()

    def run(name: str, *changes: str) -> None:
        values = [f"run.output={folder / name}", *changes]
        train.run(load_train_config(folder / "tiny.yaml", values))

    for stage in STAGES:
        zero = f"deepspeed.zero_optimization.stage={stage}"
        run(f"straight-{stage}", zero)
        run(f"pieces-{stage}", zero, "run.steps=3")
        if ranks.is_main():
            shutil.copytree(folder / f"pieces-{stage}", folder / f"for-one-rank-{stage}")
        run(f"pieces-{stage}", zero)
    run("whole-batch", *WHOLE_BATCH)
    run("long", "run.steps=24", "run.log_every=1", "run.save_every=3")
