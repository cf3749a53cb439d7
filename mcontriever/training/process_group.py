"""The process group that DeepSpeed trains in: from its launcher's environment variables, or of one process."""

import atexit
import logging
import os
import warnings
from typing import Any

import torch

from mcontriever.errors import RunError
from mcontriever.progress import log


def join_process_group() -> torch.device:
    """Join the group and return this rank's device. It is left at exit, because DeepSpeed joins only once."""
    deepspeed = _import_deepspeed()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if torch.distributed.is_initialized():
        return device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        share_cores(int(os.environ.get("LOCAL_SIZE", "1")))
    backend = "nccl" if device.type == "cuda" else "gloo"
    if "RANK" not in os.environ:
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed requires it
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
    except torch.distributed.DistNetworkError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise RunError(
            f"the processes cannot meet at {place}: {str(error).splitlines()[0]}",
            fix="if another run uses this port, choose another one: deepspeed --master_port 29501 ..., "
            "or mcontriever train --hostfile FILE --master_port 29501 ...",
        ) from error
    atexit.register(_leave)
    if torch.distributed.get_rank() > 0:
        log.setLevel(logging.ERROR)
    return device


def _leave() -> None:
    """A process that exits as a member of a group aborts."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _import_deepspeed() -> Any:
    """DeepSpeed without its banner, without compiling an operation that only its inference uses."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    try:
        import deepspeed
        import deepspeed.ops
    except ImportError as error:
        raise RunError(
            f"DeepSpeed cannot be imported: {error}",
            fix="pip install deepspeed (Linux); every other verb works without it",
        ) from error
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Its shared-memory all-reduce serves inference only, needs g++ and ninja, and takes half a minute to build.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _import_muon_uncompiled()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed.*")
    return deepspeed


def _import_muon_uncompiled() -> None:
    """DeepSpeed checks if an optimizer is Muon, and importing Muon compiles it: seconds at each start."""
    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        del os.environ["TORCHDYNAMO_DISABLE"]
        if before is not None:
            os.environ["TORCHDYNAMO_DISABLE"] = before


def share_cores(local_world_size: int) -> None:
    """Each rank on a machine uses its share of the cores, unless OMP_NUM_THREADS is set."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_world_size))
