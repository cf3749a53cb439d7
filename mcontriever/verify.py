"""Check a store and mend it; delete documents from it.

mcontriever verify STORE [--repair]
mcontriever delete STORE ID... [--ids-from FILE] [--compact]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mcontriever.disk import remove_temporaries
from mcontriever.drops import shown
from mcontriever.errors import DataError, StoreError
from mcontriever.progress import log
from mcontriever.retrieval.embedding.embedding_run import described, encoder_entry
from mcontriever.retrieval.embedding.passages import Passage, embed_passages
from mcontriever.retrieval.embedding.planning import check_encoder
from mcontriever.retrieval.embedding.store_estimate import shown_size
from mcontriever.retrieval.store import store_edits, store_runs
from mcontriever.retrieval.store.store_check import find_damage
from mcontriever.retrieval.store.store_check import repair as make_again
from mcontriever.retrieval.store.store_manifest import MANIFEST, Manifest, read_manifest, read_plan

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder


def run(folder: Path, *, repair: bool = False, model: str | None = None) -> None:
    damage, checked = find_damage(folder)
    if damage and repair:
        with store_runs.writing(folder):
            remove_temporaries(folder)
            _repair(folder, model)
        damage, checked = find_damage(folder)
    if damage:
        listed = "\n".join(f"  {item.name}: {item.what}" for item in damage)
        raise StoreError(
            f"{len(damage)} of {checked} files are damaged:\n{listed}",
            where=folder,
            fix=f"make just these again: mcontriever verify {folder} --repair",
        )
    log.info(f"{folder}: {checked} files are whole" + _state(folder))


def delete(folder: Path, identifiers: Sequence[str], *, ids_from: Path | None, compact: bool) -> None:
    wanted = [*identifiers, *(_lines_of(ids_from) if ids_from else [])]
    if not wanted and not compact:
        raise DataError("no id was given", fix="name documents' ids, or a file of them with --ids-from")
    with store_runs.writing(folder):
        if wanted:
            deleted, missing = store_edits.delete(folder, wanted)
            log.info(f"deleted {deleted:,} documents")
            if missing:
                log.warning(f"{len(missing):,} ids are not in the store: {shown(missing)}")
        if compact:
            log.info(f"freed {shown_size(store_edits.compact(folder))}")
    log.info(f"{folder}: {described(folder)}")


def _repair(folder: Path, model: str | None) -> None:
    damage, _ = find_damage(folder)

    def embed(passages: Sequence[Passage]) -> np.ndarray:
        return embed_passages(_encoder_of(read_manifest(folder), model, folder), passages)

    make_again(folder, damage, embed)


def _encoder_of(manifest: Manifest, model: str | None, folder: Path) -> "Encoder":
    from mcontriever.encoder import Encoder

    made_by = manifest.layout.encoder
    assert made_by is not None, "a store without vectors has none that could be damaged"
    name = model or made_by.model
    encoder = Encoder.load(name, precision="auto")
    check_encoder(made_by, encoder_entry(name, encoder), folder)
    return encoder


def _state(folder: Path) -> str:
    plan = read_plan(folder)
    if plan is None:
        return f"; {described(folder)}"
    done = len(store_runs.done_shards(folder, plan))
    whole = f"; the store stands at {described(folder)}" if (folder / MANIFEST).exists() else ""
    return (
        f"{whole}; {plan.run.mode} of {plan.run.corpus['path']} is under way: "
        f"{done} of {len(plan.run.shard_ends)} shards are done (run the same embed command to finish it)"
    )


def _lines_of(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the ids cannot be read: {error}", where=path, fix="give a text file") from error
    return [line.strip() for line in lines if line.strip()]
