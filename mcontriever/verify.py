"""Check a store, and repair it: mcontriever verify STORE [--repair]. Token shards and models are checked too."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mcontriever.disk import remove_temporaries
from mcontriever.encoder.model_checksums import MODEL_MARK, verify_model
from mcontriever.errors import StoreError
from mcontriever.progress import log
from mcontriever.retrieval.embedding.repair import repair as make_again
from mcontriever.retrieval.language_statistics import check_language_statistics
from mcontriever.retrieval.store import store_runs
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.passages import Passage, embed_passages
from mcontriever.retrieval.store.store_check import find_damage
from mcontriever.retrieval.store.store_encoder import check_encoder, encoder_entry
from mcontriever.retrieval.store.store_manifest import find_manifest, read_manifest, read_plan
from mcontriever.token_manifest import holds_token_shards
from mcontriever.token_shards import TokenStore

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder


def run(folder: Path, *, repair: bool = False, model: str | None = None) -> None:
    if holds_token_shards(folder):
        log.info(f"{folder}: {TokenStore.open(folder).verify()} files of token shards are whole")
        return
    if (folder / MODEL_MARK).is_file():
        log.info(f"{folder}: {verify_model(folder)} files of a model are whole")
        return
    damage, checked = find_damage(folder)
    if damage and repair:
        with store_runs.writing(folder):
            remove_temporaries(folder)
            make_again(folder, find_damage(folder)[0], lambda passages: _embed(folder, model, passages))
        damage, checked = find_damage(folder)
    if damage:
        listed = "\n".join(f"  {item.name}: {item.what}" for item in damage)
        raise StoreError(
            f"{len(damage)} of {checked} files are damaged:\n{listed}",
            where=folder,
            fix=f"make only these again: mcontriever verify {folder} --repair",
        )
    if find_manifest(folder) is not None:
        check_language_statistics(EmbeddingStore.open(folder), repair)
    log.info(f"{folder}: {checked} files are whole" + _state(folder))


def _embed(folder: Path, model: str | None, passages: Sequence[Passage]) -> np.ndarray:
    return embed_passages(_encoder_of(folder, model), passages)


def _encoder_of(folder: Path, model: str | None) -> "Encoder":
    from mcontriever.encoder import Encoder

    made_by = read_manifest(folder).layout.encoder
    assert made_by is not None, "a store without vectors has none that could be damaged"
    name = model or made_by.model
    encoder = Encoder.load(name, precision="auto")
    check_encoder(made_by, encoder_entry(name, encoder), folder)
    return encoder


def _state(folder: Path) -> str:
    plan, manifest = read_plan(folder), find_manifest(folder)
    state = f"; {manifest.described()}" if manifest else ""
    if plan is None:
        return state
    done = len(store_runs.done_shards(folder, plan))
    return (
        f"{state}; an unfinished {plan.run.mode} of {plan.run.corpus['path']}: "
        f"{done} of {len(plan.run.shard_ends)} shards are done (run the same embed command to finish it)"
    )
