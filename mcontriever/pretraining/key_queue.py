"""The queue of past keys: a ring that overwrites its oldest entries, for batches of any size.

It starts empty and only holds keys that a model made, because random vectors are useless negatives.

Shapes: K places, N new keys, H hidden.
"""

import torch

from mcontriever.errors import ConfigError, ModelError
from mcontriever.pretraining.infonce import Negatives


class KeyQueue:
    """Not a module, so that DeepSpeed neither broadcasts nor casts it. Every rank holds the same queue."""

    def __init__(self, size: int, dimension: int, *, dtype: torch.dtype = torch.float32) -> None:
        if size < 1:
            raise ConfigError(f"queue size {size} is less than 1", fix="32768 is usual")
        self.keys_KH = torch.zeros(size, dimension, dtype=dtype)
        self.text_K = torch.full((size,), -1, dtype=torch.long)
        self.language_K = torch.full((size,), -1, dtype=torch.long)
        self.next_place = 0
        self.filled = 0

    def __len__(self) -> int:
        return self.filled

    def to(self, device: torch.device) -> None:
        if self.keys_KH.device != device:
            self.keys_KH, self.text_K = self.keys_KH.to(device), self.text_K.to(device)
            self.language_K = self.language_K.to(device)

    def negatives(self) -> Negatives:
        return Negatives(self.keys_KH[: self.filled], self.text_K[: self.filled], self.language_K[: self.filled])

    def append(self, keys_NH: torch.Tensor, text_N: torch.Tensor, language_N: torch.Tensor) -> None:
        """The newest keys replace the oldest; of more keys than places, the last ones are kept."""
        size, new = len(self.keys_KH), len(keys_NH)
        kept = min(size, new)
        first = self.next_place + new - kept
        places = torch.arange(first, first + kept, device=self.keys_KH.device) % size
        self.keys_KH[places] = keys_NH[-kept:].to(self.keys_KH.dtype)
        self.text_K[places] = text_N[-kept:]
        self.language_K[places] = language_N[-kept:]
        self.next_place = (self.next_place + new) % size
        self.filled = min(size, self.filled + new)

    def state(self) -> dict[str, torch.Tensor]:
        return {
            "keys": self.keys_KH,
            "texts": self.text_K,
            "languages": self.language_K,
            "place": torch.tensor([self.next_place, self.filled]),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        if state["keys"].shape != self.keys_KH.shape:
            raise ModelError(
                f"the checkpoint's queue is {list(state['keys'].shape)}, this run's {list(self.keys_KH.shape)}",
                fix="resume with the queue size and encoder that the run began with",
            )
        self.keys_KH.copy_(state["keys"])
        self.text_K.copy_(state["texts"])
        self.language_K.copy_(state["languages"])
        self.next_place, self.filled = state["place"].tolist()
