"""What a collection of Milvus holds: row numbers, vectors, languages and, where Milvus has BM25, the terms of texts.

A term is written as a code of eight letters and digits, because Milvus's analyzers cut other scripts in their own ways.
"""

import base64
import contextlib
import functools
import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mcontriever.progress import log
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.terms import REVISION, document_terms
from mcontriever.retrieval.vector_search.vectors import Vectors

ROWS_PER_CALL = 1000
LANGUAGE_LENGTH = 64
TERMS_BYTES = 65_535  # a text of Milvus's cannot be longer
TERM_BYTES = 9  # with the blank after it
MOST_TERMS = (TERMS_BYTES + 1) // TERM_BYTES


def create_collection(client: Any, name: str, dimension: int, with_words: bool) -> str | None:
    """A new, empty collection. Returns the revision of its terms, None if it has no words."""
    from pymilvus.exceptions import MilvusException

    if with_words:
        try:
            with _no_tracebacks():
                _create(client, name, dimension, with_words=True)
            if client.describe_collection(name).get("functions"):  # older servers pass over what they do not know
                return REVISION
        except MilvusException as error:
            log.debug(f"no BM25 in this Milvus: {error}")
    _create(client, name, dimension, with_words=False)
    return None


@contextlib.contextmanager
def _no_tracebacks() -> Iterator[None]:
    """What a server refuses is told by an exception, and pymilvus writes it to stderr as well."""
    noisy = logging.getLogger("pymilvus.decorators")
    before = noisy.disabled
    noisy.disabled = True
    try:
        yield
    finally:
        noisy.disabled = before


def _create(client: Any, name: str, dimension: int, *, with_words: bool) -> None:
    from pymilvus import DataType, Function, FunctionType

    if client.has_collection(name):
        client.drop_collection(name)
    schema = client.create_schema(auto_id=False)
    schema.add_field("row", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    schema.add_field("language", DataType.VARCHAR, max_length=LANGUAGE_LENGTH)
    parameters = client.prepare_index_params()
    parameters.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
    if with_words:
        schema.add_field("terms", DataType.VARCHAR, max_length=TERMS_BYTES, enable_analyzer=True)
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
        names = {"input_field_names": ["terms"], "output_field_names": ["words"]}
        schema.add_function(Function(name="bm25", function_type=FunctionType.BM25, **names))
        parameters.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection(name, schema=schema, index_params=parameters)


def batches(store: EmbeddingStore, vectors: Vectors, first: int, with_words: bool) -> Iterator[list[dict[str, Any]]]:
    """The rows from `first` on that are not deleted, as Milvus takes them."""
    codes_N, names = store.languages
    for start in range(first, len(store), ROWS_PER_CALL):
        rows = np.setdiff1d(np.arange(start, min(start + ROWS_PER_CALL, len(store))), store.deleted_rows)
        languages = [names[code] for code in codes_N[rows]]
        batch = [
            {"row": int(row), "vector": vector_H, "language": language}
            for row, vector_H, language in zip(rows, vectors.take(rows), languages, strict=True)
        ]
        if with_words:
            for entry, terms in zip(batch, _terms_of(store, rows), strict=True):
                entry["terms"] = terms
        yield batch


def coded(terms: Sequence[str]) -> str:
    """Terms as the collection has them."""
    return " ".join(_code(term) for term in terms)


@functools.lru_cache(maxsize=1 << 16)
def _code(term: str) -> str:
    return base64.b32encode(hashlib.blake2b(term.encode(), digest_size=5).digest()).decode().lower()


def _terms_of(store: EmbeddingStore, rows: np.ndarray) -> list[str]:
    shown = store.rows_shown(rows, ["title", "text"])
    terms = [coded(document_terms(f"{row['title']} {row['text']}")) for row in shown]
    cut = sum(len(one) > TERMS_BYTES for one in terms)
    if cut:
        log.warning(f"{cut:,} texts have more words than Milvus takes ({MOST_TERMS:,}); their beginning counts")
    return [one[: MOST_TERMS * TERM_BYTES - 1] for one in terms]
