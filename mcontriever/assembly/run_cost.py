"""What a training configuration would cost, from arithmetic alone: `mcontriever train --estimate --config FILE`."""

from mcontriever.assembly.divided_batch import divide_batch
from mcontriever.assembly.estimated_work import architecture_of, estimated_work
from mcontriever.assembly.training_config import TrainConfig
from mcontriever.training.engine_settings import zero_stage
from mcontriever.training.memory_estimate import GB, GPUS, REFERENCE_GPU, report, summary


def run_cost(config: TrainConfig, world_size: int, *, short: bool = False) -> str:
    """On so many GPUs, with the batch divided as it would be on each kind of them."""
    architecture = architecture_of(config)
    works = {
        name: estimated_work(*divide_batch(config, world_size, gpu.memory_gb * GB, architecture), architecture)
        for name, gpu in GPUS.items()
    }
    stage, checkpoints = zero_stage(config.deepspeed), config.run.keep_last + 1
    return summary(works[REFERENCE_GPU], stage, checkpoints) if short else report(works, stage, checkpoints)
