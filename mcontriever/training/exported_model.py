"""From a checkpoint to a folder that SentenceTransformer, AutoModel and `Encoder.load` open."""

import shutil
from pathlib import Path

from mcontriever.disk import atomic_folder
from mcontriever.errors import StoreError
from mcontriever.training.checkpoints import MODEL, NAME, checkpoints_of
from mcontriever.training.compact_weights import compact_weights


def find_checkpoint(path: Path) -> Path:
    """A checkpoint's folder, from itself, from a run's folder (its newest), or from the checkpoints folder of one."""
    if NAME.fullmatch(path.name) and (path / MODEL).is_dir():
        return path
    run = path.parent if path.name == "checkpoints" else path
    found = checkpoints_of(run)
    if not found:
        raise StoreError(
            "no checkpoint of a training run" if path.is_dir() else "no such folder",
            where=path,
            fix="give a run's folder (run.output) or one of its checkpoints/step-...",
        )
    return found[-1]


def copy_model(checkpoint: Path, output: Path, *, weights: str = "float32") -> Path:
    """Write the checkpoint's model to `output`, whole or not at all; `weights` as compact_weights.py has them."""
    with atomic_folder(output) as temporary:
        shutil.copytree(checkpoint / MODEL, temporary, dirs_exist_ok=True)
        if weights != "float32":
            compact_weights(temporary, weights)
    return output
