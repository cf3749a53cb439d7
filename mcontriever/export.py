"""`mcontriever export CHECKPOINT --output DIR`: a checkpoint's model as a folder that other libraries open.

CHECKPOINT is a run's folder (its newest checkpoint is taken) or one of its checkpoints/step-... folders.
"""

from pathlib import Path

from mcontriever.errors import StoreError
from mcontriever.progress import log
from mcontriever.training.checkpoints import read_state
from mcontriever.training.exported_model import copy_model, find_checkpoint


def run(checkpoint: Path, output: Path, *, weights: str = "float32") -> None:
    found = find_checkpoint(checkpoint)
    state = read_state(found)
    if output.exists() and any(output.iterdir()) and not (output / "modules.json").exists():
        raise StoreError("the folder is not empty and holds no exported model", where=output, fix="give a new folder")
    copy_model(found, output, weights=weights)
    log.info(f"exported step {state['step']:,} ({state['samples']:,} samples) of {found} to {output}")
