"""Which kind of index suits a store, how much effort reaches the recall wanted, and what that costs."""

import time
from typing import Any

import numpy as np

from mcontriever.chance import permuted
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.faiss_index import FaissIndex
from mcontriever.retrieval.vector_search.index_kinds import FLAT_INT8, bytes_per_vector
from mcontriever.retrieval.vector_search.rounded_index import RoundedIndex
from mcontriever.retrieval.vector_search.vectors import Vectors

RECALL_DEPTH = 10
SAMPLE_QUERIES = 400
LATENCY_QUERIES = 50
FLAT_ROWS = 20_000  # below this a full scan is fastest


def choose_kind(rows: int, dimension: int, memory_bytes: int) -> str:
    """The fastest kind that fits into memory."""
    if rows <= FLAT_ROWS and rows * bytes_per_vector(FLAT_INT8, dimension) <= memory_bytes:
        return FLAT_INT8
    for kind in ("hnsw", "ivf-sq", "ivf-pq"):
        if rows * bytes_per_vector(kind, dimension) <= memory_bytes:
            return kind
    return "rabitq"


def build(vectors: Vectors, kind: str, memory_bytes: int) -> FaissIndex | RoundedIndex:
    return RoundedIndex.build(vectors) if kind == FLAT_INT8 else FaissIndex.build(vectors, kind, memory_bytes)


def tune(
    index: FaissIndex | RoundedIndex, recall_wanted: float, allowed_N: np.ndarray | None = None, seed: int = 0
) -> tuple[FaissIndex | RoundedIndex, dict[str, Any]]:
    """The least effort that reaches the recall on a sample of the store's own rows, and the measurements with it."""
    sample = sample_rows(len(index.vectors), allowed_N, seed)
    queries_QH = index.vectors.take(sample)
    _, exact_QK = ExactSearch(index.vectors).search(queries_QH, RECALL_DEPTH + 1, allowed_N)
    recall = 0.0
    for effort in index.efforts:
        index = index.with_effort(effort)
        _, found_QK = index.search(queries_QH, RECALL_DEPTH + 1, allowed_N)
        recall = recall_without_self(exact_QK, found_QK, sample)
        if recall >= recall_wanted:
            break
    return index, {"recall_at_10": round(recall, 4), "queries": len(sample), **_speed(index, queries_QH)}


def sample_rows(rows: int, allowed_N: np.ndarray | None, seed: int) -> np.ndarray:
    candidates = np.arange(rows) if allowed_N is None else np.flatnonzero(allowed_N)
    count = min(SAMPLE_QUERIES, len(candidates))
    return candidates[permuted(seed, "index-sample", len(candidates), np.arange(count))]


def recall_without_self(exact_QK: np.ndarray, found_QK: np.ndarray, self_Q: np.ndarray) -> float:
    """The share of each query's 10 nearest rows, without itself, that were found."""
    shares = []
    for exact_K, found_K, own in zip(exact_QK, found_QK, self_Q, strict=True):
        wanted = exact_K[exact_K != own][:RECALL_DEPTH]
        found = found_K[found_K != own][:RECALL_DEPTH]
        shares.append(len(np.intersect1d(wanted, found)) / len(wanted) if len(wanted) else 1.0)
    return float(np.mean(shares))


def _speed(index: FaissIndex | RoundedIndex, queries_QH: np.ndarray) -> dict[str, float]:
    times = []
    for query_H in queries_QH[:LATENCY_QUERIES]:
        started = time.perf_counter()
        index.search(query_H[None], RECALL_DEPTH)
        times.append(time.perf_counter() - started)
    started = time.perf_counter()
    index.search(queries_QH, RECALL_DEPTH)
    together = (time.perf_counter() - started) / len(queries_QH)
    return {"latency_ms": round(float(np.median(times)) * 1e3, 3), "queries_per_second": round(1 / together, 1)}
