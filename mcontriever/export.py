"""`mcontriever export CHECKPOINT --output DIR`: a checkpoint's model as a folder that other libraries open.

CHECKPOINT is a run's folder (its newest checkpoint is taken) or one of its checkpoints/step-... folders; or a model (a
folder, a hub name, mini, nano), to be stored with other --weights: only this package reads int2,
int4 and int4-blocks. dpr:QUERIES,PASSAGES puts two encoders that were trained together into one folder.
"""

from pathlib import Path

from mcontriever.disk import atomic_folder
from mcontriever.encoder.saved_model import MODEL_FOLDER
from mcontriever.evaluation.model_specs import is_pair
from mcontriever.hub import is_at_hand, model_folder
from mcontriever.progress import log
from mcontriever.training.checkpoints import read_state
from mcontriever.training.compact_weights import compact_weights
from mcontriever.training.exported_model import copy_model, find_checkpoint


def run(source: str, output: Path, *, weights: str = "float32", overwrite: bool = False) -> None:
    MODEL_FOLDER.require_replaceable(output, overwrite=overwrite)
    if is_pair(str(source)) or (is_at_hand(source) and (model_folder(source) / "config.json").is_file()):
        _store_again(source, output, weights)
        log.info(f"exported {source} to {output}")
        return
    found = find_checkpoint(Path(source))
    state = read_state(found)
    copy_model(found, output, weights=weights)
    log.info(f"exported step {state['step']:,} ({state['samples']:,} samples) of {found} to {output}")


def _store_again(model: str, output: Path, weights: str) -> None:
    from mcontriever.encoder import Encoder
    from mcontriever.evaluation.dpr_checkpoints import load_pair

    card = None if is_pair(model) else model_folder(model) / "README.md"
    with atomic_folder(output) as temporary:
        encoder = load_pair(model) if is_pair(model) else Encoder.load(model)
        encoder.save(temporary, card=card.read_text(encoding="utf-8") if card and card.is_file() else None)
        if weights != "float32":
            compact_weights(temporary, weights)
