"""The checkpoints of a run as it goes: written with a model card, the best one's model copied, old ones removed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcontriever import ranks
from mcontriever.training.checkpoints import checkpoint_name, prune, write_checkpoint
from mcontriever.training.engine import WholeEncoder
from mcontriever.training.exported_model import copy_model
from mcontriever.training.run_state import RunState


@dataclass(frozen=True)
class RunCheckpoints:
    """`describe` makes a model card and more files; `facts` identify the model of a checkpoint."""

    folder: Path
    engine: Any
    whole_encoder: WholeEncoder
    describe: Callable[[RunState], tuple[str, dict[str, bytes]]]
    facts: Mapping[str, Any]
    keep_last: int

    def save(self, state: RunState, *, best: bool) -> None:
        """Collective."""
        card, attachments = self.describe(state)
        checkpoint = write_checkpoint(
            self.folder,
            {**state.to_json(), **self.facts},
            self.engine,
            self.whole_encoder,
            card=card,
            attachments=attachments,
        )
        if ranks.is_main():
            if best:
                copy_model(checkpoint, self.folder / "best")
            keep_also = None if state.best_step is None else checkpoint_name(state.best_step)
            prune(self.folder, self.keep_last, keep_also)
