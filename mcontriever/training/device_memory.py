"""How much memory a process of a run may use."""

import os

import psutil
import torch


def memory_per_process(device: torch.device) -> int:
    """The GPU's, or on a CPU an equal part of the machine's for each process on it. All of it, not what is free now:
    the same machine always gives the same number.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total) // int(os.environ.get("LOCAL_SIZE", "1"))
