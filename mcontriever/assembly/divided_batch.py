"""How a batch is divided. The experiment states the batch (deepspeed.train_batch_size), the machine decides the rest.

Samples that meet in a loss (in-batch negatives) stay together in one micro step; the texts whose activations are in
memory at a time are as many as fit. Other samples (MoCo's) are taken in as many micro steps as needed: a process takes
the largest divisor of its share that fits. What fits is what the estimate (training/memory_estimate.py) puts at 80 %
of the memory of a GPU, or of a process's part of the machine's, or less.

The keys train_micro_batch_size_per_gpu, gradient_accumulation_steps and rows_per_sub_batch overrule this.
"""

from collections.abc import Callable, Iterable
from typing import Any

from mcontriever.assembly.estimated_work import architecture_of, estimated_work
from mcontriever.assembly.training_config import TrainConfig
from mcontriever.pretraining.moco import QueueSettings
from mcontriever.training.engine_settings import complete_settings, zero_stage
from mcontriever.training.memory_estimate import Architecture

MEMORY_SHARE = 0.8  # the rest is for what the estimate does not count: buffers, fragments, the libraries
Divided = tuple[TrainConfig, dict[str, Any]]


def divide_batch(
    config: TrainConfig, world_size: int, memory_bytes: float, architecture: Architecture | None = None
) -> Divided:
    """The configuration with its sub-batch, and DeepSpeed's complete settings, for processes with so much memory."""
    block = config.deepspeed
    settings = complete_settings(block, world_size=world_size, total_steps=config.run.steps)
    architecture = architecture or architecture_of(config, fetch=True)

    def fits(divided: Divided) -> bool:
        needed = estimated_work(*divided, architecture).memory_bytes(zero_stage(block))
        return sum(needed.values()) <= MEMORY_SHARE * memory_bytes

    if config.objective.contrasts_within_batch:
        return _first_that_fits(_sub_batches(config, settings), fits)
    is_free = not (block.get("train_micro_batch_size_per_gpu") or block.get("gradient_accumulation_steps"))
    return _first_that_fits(_micro_steps(config, settings), fits) if is_free else (config, settings)


def _sub_batches(config: TrainConfig, settings: dict[str, Any]) -> Iterable[Divided]:
    """The configuration as it is, then with half as many texts at a time, again and again."""
    yield config, settings
    objective = config.objective
    if isinstance(objective, QueueSettings) or objective.rows_per_sub_batch is not None:
        return
    texts = settings["train_micro_batch_size_per_gpu"]
    while texts >= 1:
        smaller = objective.model_copy(update={"rows_per_sub_batch": texts})
        yield config.model_copy(update={"objective": smaller}), settings
        texts //= 2


def _micro_steps(config: TrainConfig, settings: dict[str, Any]) -> Iterable[Divided]:
    """Divisors of a process's share of the batch, the largest first."""
    share = settings["train_micro_batch_size_per_gpu"] * settings["gradient_accumulation_steps"]
    for rows in range(share, 0, -1):
        if share % rows == 0:
            division = {"train_micro_batch_size_per_gpu": rows, "gradient_accumulation_steps": share // rows}
            yield config, settings | division


def _first_that_fits(divisions: Iterable[Divided], fits: Callable[[Divided], bool]) -> Divided:
    """The last one, if none does: the estimate may err, and nothing smaller is left to try."""
    division = None
    for division in divisions:
        if fits(division):
            break
    assert division is not None
    return division
