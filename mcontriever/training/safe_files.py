"""DeepSpeed's own checkpoint files, read without running code from a pickle, and written without deadlock."""

import copyreg
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

KNOWN_CLASSES = [LossScaler, ZeroStageEnum, fragment_address]


def _by_value(stage: ZeroStageEnum) -> tuple[type[ZeroStageEnum], tuple[int]]:
    return ZeroStageEnum, (stage.value,)


copyreg.pickle(ZeroStageEnum, _by_value)  # Python before 3.11.4 stores a call of getattr, which no safe load allows


class SafeFiles(TorchCheckpointEngine):
    """Replaces `engine.checkpoint_engine`."""

    def __init__(self) -> None:
        super().__init__()
        self.write_error: Exception | None = None

    def save(self, state_dict: object, path: str) -> None:
        """A failed write is raised later: raised here, it would leave the other ranks waiting in a barrier."""
        try:
            torch.save(state_dict, path)
        except (OSError, RuntimeError) as error:
            self.write_error = error

    def load(self, path: str, map_location: Any = None) -> object:
        with torch.serialization.safe_globals(KNOWN_CLASSES):
            return torch.load(path, map_location=map_location, weights_only=True)
