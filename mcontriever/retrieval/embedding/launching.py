"""This process's share of the shards, as DeepSpeed, torchrun or Slurm set it in the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Rank of world; local_rank of local_world on this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> "Place":
        values = os.environ if environment is None else environment
        if "RANK" in values and "WORLD_SIZE" in values:  # DeepSpeed, torchrun, mpirun wrappers
            rank, world = int(values["RANK"]), int(values["WORLD_SIZE"])
            local_world = values.get("LOCAL_WORLD_SIZE", values.get("LOCAL_SIZE", world))
            return cls(rank, world, int(values.get("LOCAL_RANK", rank)), int(local_world))
        if "SLURM_PROCID" in values and "SLURM_STEP_NUM_TASKS" in values:  # srun; a batch script alone is one process
            rank, world = int(values["SLURM_PROCID"]), int(values["SLURM_STEP_NUM_TASKS"])
            local_world = int(values.get("SLURM_STEP_TASKS_PER_NODE", str(world)).split("(")[0].split(",")[0])
            return cls(rank, world, int(values.get("SLURM_LOCALID", rank)), local_world)
        return cls()

    def shards(self, count: int) -> range:
        return range(self.rank, count, self.world)

    def device(self, wanted: str = "auto") -> str:
        """The rank's own GPU if there is one, else the CPU with its share of the cores."""
        import torch

        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if wanted == "cuda" and torch.cuda.is_available():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        if wanted == "cpu" and self.local_world > 1 and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, torch.get_num_threads() // self.local_world))
        return wanted
