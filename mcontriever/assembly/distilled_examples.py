"""The objective `distil` of fine-tuning: each query and passage with a teacher's vector, found by its text.

A text that the teacher's store does not hold is refused before the first step: vectors of older versions of the
texts, or of another corpus, would teach the wrong thing without an error.

Shapes: B queries, P passages, N = B + P texts, H the teacher's dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mcontriever.assembly.objectives import FinetuningDistil
from mcontriever.assembly.teacher_stores import full_texts, made_from, open_teacher_stores, scores_by_cosine
from mcontriever.assembly.training_config import FinetuneConfig
from mcontriever.config.teacher import TeacherSection
from mcontriever.disk import atomic_folder, write_json
from mcontriever.distillation.taught_batch import TaughtBatch
from mcontriever.distillation.teacher_rows import find_rows, refuse_missing, text_hashes
from mcontriever.distillation.text_rows import MANIFEST, refuse_another
from mcontriever.errors import ConfigError
from mcontriever.finetuning.examples.passage_collection import PassageCollection
from mcontriever.finetuning.examples.training_set import TrainingSet
from mcontriever.finetuning.triples import TripleLoader
from mcontriever.npy_files import mapped
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.tokens import PackedBatch
from mcontriever.training.agreement import on_main_rank

TEXTS_AT_ONCE = 4096


def check_teacher(config: FinetuneConfig) -> None:
    distils = isinstance(config.objective, FinetuningDistil)
    if distils and config.data.teacher is None:
        raise ConfigError(
            "the objective distil needs a teacher's vectors",
            fix="name its stores: data.teacher.queries and data.teacher.passages",
        )
    if not distils and config.data.teacher is not None:
        raise ConfigError(
            f"data.teacher is given, but the objective {config.objective.kind} learns from no vectors",
            fix="choose the objective distil (with objective.contrast), or omit data.teacher",
        )


@dataclass(frozen=True, eq=False)
class TeacherVectors:
    """Two stores, and the row of each query and passage in them."""

    queries: EmbeddingStore
    passages: EmbeddingStore
    query_rows: np.ndarray
    passage_rows: np.ndarray

    @property
    def dimension(self) -> int:
        return self.passages.dimension

    @property
    def unit(self) -> bool:
        return scores_by_cosine(self.passages)

    def take(self, queries_B: np.ndarray, passages_P: np.ndarray) -> np.ndarray:
        parts = (
            self.queries.take(self.query_rows[queries_B]),
            self.passages.take(self.passage_rows[passages_P]),
        )
        return np.concatenate(parts)


def find_vectors(section: TeacherSection, examples: TrainingSet, folder: Path) -> TeacherVectors:
    """Looked up once by rank 0 and kept in the run's folder."""
    queries, passages = open_teacher_stores([section.queries, section.passages])
    query_rows = _rows(queries, examples.queries, "queries", folder, " --queries", examples.fingerprint)
    passage_rows = _rows(passages, examples.passages, "passages", folder, "", examples.fingerprint)
    return TeacherVectors(queries, passages, query_rows, passage_rows)


class TaughtTriples:
    """Batches of fine-tuning with the teacher's vectors of their texts."""

    def __init__(self, loader: TripleLoader, teacher: TeacherVectors, *, has_contrast: bool) -> None:
        self.loader, self.teacher, self.has_contrast = loader, teacher, has_contrast

    def batch(self, samples: np.ndarray) -> TaughtBatch:
        triples = self.loader.batch(samples)
        return TaughtBatch(
            taught=PackedBatch.join([triples.queries, triples.passages]),
            teacher_NH=torch.from_numpy(self.teacher.take(*self.loader.rows_of(samples))),
            language_R=torch.zeros(0, dtype=torch.int64),
            questions=len(triples.queries),
            contrasted=triples if self.has_contrast else None,
            contrasts_taught_rows=self.has_contrast,
        )


def _rows(
    store: EmbeddingStore, collection: PassageCollection, what: str, folder: Path, option: str, fingerprint: str
) -> np.ndarray:
    home = folder / "teacher-rows" / f"{what}-{fingerprint}"
    facts = made_from(store)
    on_main_rank(partial(_look_up, home, store, collection, what, option, facts))
    refuse_another(home, facts)
    return mapped(home / "rows.npy")


def _look_up(
    home: Path, store: EmbeddingStore, collection: PassageCollection, what: str, option: str, facts: dict[str, str]
) -> None:
    if (home / MANIFEST).is_file():
        return
    store_hashes = np.concatenate([text_hashes(texts) for texts in full_texts(store)])
    if store.live_N is not None:
        live = np.flatnonzero(store.live_N)
        found = find_rows(store_hashes[live], _hashes(collection))
        rows_N = np.where(found >= 0, live[found], -1)
    else:
        rows_N = find_rows(store_hashes, _hashes(collection))
    missing = np.flatnonzero(rows_N < 0)
    example = collection.documents(missing[:1])[0].full_text if len(missing) else ""
    command = f"mcontriever embed {collection.path} --model TEACHER{option} --output STORE"
    refuse_missing(rows_N, what, example, store.folder, command)
    with atomic_folder(home) as temporary:
        np.save(temporary / "rows.npy", rows_N)
        write_json(temporary / MANIFEST, facts)


def _hashes(collection: PassageCollection) -> np.ndarray:
    def some(start: int) -> Sequence[str]:
        rows = np.arange(start, min(start + TEXTS_AT_ONCE, len(collection)))
        return [document.full_text for document in collection.documents(rows)]

    parts = [text_hashes(some(start)) for start in range(0, len(collection), TEXTS_AT_ONCE)]
    return np.concatenate([np.zeros(0, dtype=np.uint64), *parts])
