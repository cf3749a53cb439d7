"""The loop of `mcontriever train` without logs and checkpoints, for train_step.py and finetune_step.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever.encoder import Encoder
from mcontriever.training.data_order import DataOrder
from mcontriever.training.engine import WholeEncoder, start_engine
from mcontriever.training.engine_settings import complete_settings
from mcontriever.training.learner import Learner
from mcontriever.training.loop import BatchSource, TrainingLoop
from mcontriever.training.run_checkpoints import RunCheckpoints
from mcontriever.training.run_report import RunReport
from mcontriever.training.run_state import RunState
from mcontriever.training.schedule import Schedule
from mcontriever.training.stop_request import StopRequest

STEPS = 10**6  # more than any benchmark takes


def bare_loop(
    encoder: Encoder,
    objective: torch.nn.Module,
    block: dict[str, Any],
    make_batch: Callable[[np.ndarray], Any],
    rows: int,
    device: torch.device,
) -> TrainingLoop:
    """In one process; `block` is the section `deepspeed` of a configuration."""
    settings = complete_settings(block, world_size=1, total_steps=STEPS)
    whole_encoder = WholeEncoder(encoder, settings)
    engine = start_engine(objective, settings)
    engine.train()
    return TrainingLoop(
        learner=Learner(engine, device, seed=0),
        source=BatchSource(DataOrder(0, 1, rows, 1), make_batch, []),
        state=RunState(),
        schedule=Schedule(STEPS, STEPS, log_every=STEPS, save_every=STEPS, evaluate_every=STEPS, patience=None),
        report=RunReport(Path(), None, history=[], advice=lambda history: None, device=device),
        checkpoints=RunCheckpoints(Path(), engine, whole_encoder, lambda state: ("", {}), {}, 1),
        evaluation=None,
        stop=StopRequest(),
    )
