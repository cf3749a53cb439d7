"""What is in a store, in numbers that a person can look at: languages, lengths, duplicates, distances, indexes.

Shapes: N rows of the store, L languages.
"""

from typing import Any

import numpy as np

from mcontriever.retrieval.language_statistics import open_language_statistics
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore

LENGTH_BOUNDS = (50, 100, 200, 400, 800, 1600, 3200)
MOST_DISTANCES = 30  # languages in the table of distances
TEXTS_PER_BATCH = 4096


def documents_by_language(store: EmbeddingStore) -> dict[str, int]:
    """Of those that may be found, the most frequent language first."""
    codes_N, names = store.languages
    is_counted_N = np.ones(len(store), dtype=bool) if store.live_N is None else store.live_N.copy()
    if store.documents_N is not None:
        is_counted_N &= np.diff(store.documents_N, prepend=-1) > 0  # the first passage of each document
    counts_L = np.bincount(codes_N[is_counted_N], minlength=len(names))
    order = sorted(range(len(names)), key=lambda code: (-counts_L[code], names[code]))
    return {names[code]: int(counts_L[code]) for code in order if counts_L[code]}


def store_facts(store: EmbeddingStore) -> dict[str, Any]:
    """All texts are read once."""
    manifest = store.manifest
    live_N = np.ones(len(store), dtype=bool) if store.live_N is None else store.live_N
    return {
        "documents": manifest.documents,
        "passages": int(live_N.sum()),
        "languages": documents_by_language(store),
        "vectors": {"type": manifest.layout.dtype, "dimension": store.dimension} if store.encoder else None,
        "bytes": sum(file.bytes for shard in manifest.shards for file in shard.files.values()),
        **(_text_facts(store, live_N) if manifest.layout.keeps_text else {}),
        "language_distances": _language_distances(store) if store.encoder else None,
        "indexes": _indexes(store),
    }


def _text_facts(store: EmbeddingStore, live_N: np.ndarray) -> dict[str, Any]:
    lengths_N, hashes_N = np.empty(len(store), dtype=np.int64), np.empty(len(store), dtype=np.int64)
    filled = 0
    for titles, texts in store.text_batches(TEXTS_PER_BATCH):
        part = slice(filled, filled + len(texts))
        lengths_N[part] = [len(text) for text in texts]
        hashes_N[part] = [hash(pair) for pair in zip(titles, texts, strict=True)]
        filled += len(texts)
    lengths, codes = lengths_N[live_N], store.languages[0][live_N]
    counts = np.bincount(np.searchsorted(LENGTH_BOUNDS, lengths, side="right"), minlength=len(LENGTH_BOUNDS) + 1)
    return {
        "lengths": {
            "unit": "characters of a passage",
            "bounds": list(LENGTH_BOUNDS),
            "counts": counts.tolist(),
            "median_by_language": {
                store.languages[1][code]: float(np.median(lengths[codes == code])) for code in np.unique(codes)
            },
        },
        "duplicates": int(live_N.sum() - len(np.unique(hashes_N[live_N]))),
    }


def _language_distances(store: EmbeddingStore) -> dict[str, Any]:
    """1 - cosine between the mean vectors of languages: how far an encoder holds them apart."""
    statistics = open_language_statistics(store)
    largest = np.argsort(-statistics.counts_L, kind="stable")[:MOST_DISTANCES]
    largest = largest[statistics.counts_L[largest] > 0]
    means_LH = statistics.sums_LH[largest] / statistics.counts_L[largest, None]
    means_LH /= np.maximum(np.linalg.norm(means_LH, axis=1, keepdims=True), 1e-12)
    return {
        "languages": [statistics.languages[code] for code in largest],
        "distances": np.round(np.maximum(1 - means_LH @ means_LH.T, 0), 4).tolist(),
    }


def _indexes(store: EmbeddingStore) -> list[dict[str, Any]]:
    found = []
    for kind in derived.kinds_newest_first(store):
        facts = derived.manifest_of(store, kind) if kind not in derived.MADE_BY_THEMSELVES else None
        if facts is not None:
            measured = facts.get("measured") or {}
            found.append({"kind": kind, "is_current": derived.is_fresh(store, kind), **measured})
    return found
