"""The estimate before embedding: time, measured on the first documents; disk; memory."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcontriever.amounts import shown_duration, shown_size
from mcontriever.errors import StoreError
from mcontriever.progress import log
from mcontriever.retrieval.embedding.survey import is_empty
from mcontriever.retrieval.store.passages import Passage, embed_passages, passages_of
from mcontriever.retrieval.store.shard_files import BYTES_PER_VALUE
from mcontriever.retrieval.store.store_manifest import Plan
from mcontriever.texts.documents import Document

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

SAMPLE_DOCUMENTS, SAMPLE_SHARE = 64, 64  # so many at most, and one of so many: they are embedded twice


def announce_estimate(
    folder: Path, plan: Plan, share: float, documents: Sequence[Document], encoder: "Encoder | None"
) -> None:
    """From the first shard's documents; `share` is this process's share of the work."""
    full = [document for document in documents if not is_empty(document)]
    step = max(len(full) // SAMPLE_DOCUMENTS, min(len(full) // 4, SAMPLE_SHARE), 1)
    sample = full[::step]
    passages = [passage for document in sample for passage in passages_of(document, plan.layout.passage_length)]
    rows = round((plan.run.documents - plan.run.empty) * len(passages) / max(len(sample), 1))
    vector_bytes = rows * plan.layout.dimension * BYTES_PER_VALUE[plan.layout.dtype]
    text_bytes = plan.run.characters if plan.layout.keeps_text else 0
    _check_space(folder, vector_bytes)
    memory = sum(value.nbytes for value in encoder.parameters()) if encoder else 0
    log.info(
        f"{plan.run.documents:,} documents, {plan.run.characters:,} characters"
        + (f", about {rows:,} passages" if plan.layout.passage_words else "")
        + f"; disk: {shown_size(vector_bytes)} of vectors and up to {shown_size(text_bytes)} of texts"
        + (f"; memory: {shown_size(memory)} for the model in each process" if encoder else "")
        + (f"; time: about {shown_duration(_seconds(encoder, passages, rows) * share)}" if encoder else "")
    )


def _seconds(encoder: "Encoder", passages: Sequence[Passage], rows: int) -> float:
    embed_passages(encoder, passages[:4])
    started = time.perf_counter()
    embed_passages(encoder, passages)
    return (time.perf_counter() - started) / max(len(passages), 1) * rows


def _check_space(folder: Path, vector_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < vector_bytes:
        raise StoreError(
            f"the vectors need {shown_size(vector_bytes)}, the device has {shown_size(free)} left",
            where=folder,
            fix="free some space, choose another folder, or --dtype int8",
        )
