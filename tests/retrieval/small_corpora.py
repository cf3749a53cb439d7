"""Small mixed-language corpora for the retrieval tests, and stores made of them."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.language_statistics import LanguageStatistics
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.texts.documents import Document
from tests.conftest import SENTENCES


def mixed_documents(count: int, prefix: str = "d") -> list[Document]:
    """Different texts of different lengths in five languages, every third with a title."""
    languages = list(SENTENCES)
    documents = []
    for number in range(count):
        language = languages[number % len(languages)]
        pool = SENTENCES[language]
        text = " ".join(pool[(number + step) % len(pool)] for step in range(1 + number % 3)) + f" {number}"
        title = f"{pool[number % len(pool)].split()[0]} {number}" if number % 3 == 0 else ""
        documents.append(Document(f"{prefix}{number}", text, title, language))
    return documents


def write_lines(path: Path, documents: Sequence[Document]) -> Path:
    lines = b"".join(
        orjson.dumps({"_id": item.id, "text": item.text, "title": item.title, "language": item.language}) + b"\n"
        for item in documents
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def make_store(folder: Path, documents: Sequence[Document], encoder: Any, **request: Any) -> EmbeddingStore:
    """A store of these documents; their file stays beside it as NAME.jsonl. Without an encoder: a bm25 store."""
    corpus = write_lines(folder.with_suffix(".jsonl"), documents)
    model = "bm25" if encoder is None else "tiny"
    embed(EmbeddingRequest(str(corpus), folder, **{"model": model, **request}), encoder=encoder)
    return EmbeddingStore.open(folder)


def all_vectors(store: EmbeddingStore) -> np.ndarray:
    return store.take(np.arange(len(store)))


def all_ids(store: EmbeddingStore) -> list[str]:
    return [row["id"] for row in store.rows_shown(np.arange(len(store)), ["id"])]


def unit_rows(rng: np.random.Generator, rows: int, dimension: int, clusters: int | None = None) -> np.ndarray:
    """Rows of length one; around so many centres, as embeddings are, or everywhere."""
    rows_NH = rng.standard_normal((rows, dimension))
    if clusters is not None:
        rows_NH = 2 * rng.standard_normal((clusters, dimension))[rng.integers(0, clusters, rows)] + rows_NH
    return (rows_NH / np.linalg.norm(rows_NH, axis=1, keepdims=True)).astype(np.float32)


def statistics_of(vectors_NH: np.ndarray, languages: Sequence[str]) -> LanguageStatistics:
    """Of vectors in memory, by the language of each."""
    names, codes_N = np.unique(np.array(languages, dtype=str), return_inverse=True)
    found = LanguageStatistics.empty(names.tolist(), vectors_NH.shape[1])
    found.add(vectors_NH, codes_N)
    return found
