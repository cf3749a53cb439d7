"""A store of synthetic embeddings without an embedding run, for search.py and mine.py."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.passages import Passage
from mcontriever.retrieval.store.shard_files import passages_table, shard_arrays, write_shard_files
from mcontriever.retrieval.store.store_manifest import MANIFEST, EncoderEntry, Layout, Manifest, ShardEntry, write_entry
from mcontriever.texts.documents import Document

SHARD_ROWS = 10_000


def make_store(
    folder: Path,
    draw: Callable[[int], np.ndarray],
    rows: int,
    document: Callable[[int], Document],
    dtype: Any,
    *,
    encoder: EncoderEntry | None,
    keeps_text: bool = True,
) -> EmbeddingStore:
    """Row i has a drawn vector and the text of document(i)."""
    folder.mkdir(parents=True)
    shards: list[ShardEntry] = []
    for number, start in enumerate(range(0, rows, SHARD_ROWS)):
        documents = [document(row) for row in range(start, min(start + SHARD_ROWS, rows))]
        passages = [Passage(one, 0, one.text) for one in documents]
        vectors = draw(len(passages))
        files = write_shard_files(
            folder, number, shard_arrays(vectors, passages, dtype), passages_table(passages, keeps_text)
        )
        count, stop = len(passages), start + len(passages)
        entry = {"number": number, "run": "drawn", "start": start, "stop": stop, "files": files, "empty_ids": []}
        languages = Counter(one.language for one in documents)
        shards.append(ShardEntry(**entry, rows=count, documents=count, languages=languages))
    layout = Layout(
        encoder=encoder,
        dtype=dtype,
        dimension=vectors.shape[1],
        keeps_text=keeps_text,
        passage_words=None,
        passage_overlap=None,
    )
    manifest = Manifest(generation=1, next_shard=len(shards), layout=layout, shards=shards, deleted=None, runs=[])
    write_entry(folder / MANIFEST, manifest)
    return EmbeddingStore.open(folder)


def embeddings_like(rng: np.random.Generator, dimension: int) -> Callable[[int], np.ndarray]:
    """Rows around 300 topics around 20 fields, each level with a spectrum that falls, in a corner of the space."""
    spectrum = np.arange(1, dimension + 1, dtype=np.float32) ** -0.6
    turn = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0].astype(np.float32)

    def noise(rows: int) -> np.ndarray:
        return rng.standard_normal((rows, dimension), dtype=np.float32) * spectrum

    fields = noise(20)
    topics = fields[rng.integers(0, 20, 300)] + 0.7 * noise(300)
    corner = noise(1)

    def draw(rows: int) -> np.ndarray:
        return unit((corner + topics[rng.integers(0, 300, rows)] + 0.7 * noise(rows)) @ turn)

    return draw


def unit(rows_NH: np.ndarray) -> np.ndarray:
    return (rows_NH / np.linalg.norm(rows_NH, axis=1, keepdims=True)).astype(np.float32)
