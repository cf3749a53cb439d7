"""Which rows hold a text: a key for each row's text, and the way back from a key to the first row with it.

Shapes: N rows of the store.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcontriever.npy_files import mapped
from mcontriever.progress import track
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore

TEXTS_PER_BATCH = 4096
KIND = "text-keys"


@dataclass(frozen=True, eq=False)
class StoreTexts:
    keys_N: np.ndarray
    sorted_keys_N: np.ndarray
    sorted_rows_N: np.ndarray

    @classmethod
    def open(cls, store: EmbeddingStore, text_key: Callable[[str], int]) -> "StoreTexts":
        """All texts are read once; the keys are then kept beside the store."""

        def make() -> None:
            derived.write(store, KIND, lambda folder: _write_keys(store, text_key, folder / "keys.npy"))

        derived.ensure(store, KIND, make)
        keys_N = mapped(derived.folder_of(store, KIND) / "keys.npy")
        order_N = np.argsort(keys_N, kind="stable")
        return cls(keys_N, keys_N[order_N], order_N)

    def rows_of(self, keys: np.ndarray) -> np.ndarray:
        """-1 for a text that is in no row."""
        places = np.minimum(np.searchsorted(self.sorted_keys_N, keys), len(self.sorted_keys_N) - 1)
        return np.where(self.sorted_keys_N[places] == keys, self.sorted_rows_N[places], -1)


def _write_keys(store: EmbeddingStore, text_key: Callable[[str], int], path: Path) -> None:
    keys_N = np.empty(len(store), dtype=np.uint64)
    filled = 0
    with track(len(store), "reading texts, once", "rows") as progress:
        for _, texts in store.text_batches(TEXTS_PER_BATCH):
            keys_N[filled : filled + len(texts)] = [text_key(text) for text in texts]
            filled += len(texts)
            progress.advance(len(texts))
    np.save(path, keys_N)
