"""Milvus over a store: Milvus Lite in a file, or a server or cluster by its URI, for what one machine cannot hold.

Milvus gets the vectors, languages and, where it has BM25, the terms of texts under their row numbers. Texts stay in the
store. Needs mcontriever[milvus].
A server's password is taken from MILVUS_TOKEN or MILVUS_TOKEN_FILE and is never stored.
Shapes: Q queries, H dimensions, K wanted.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from mcontriever.disk import FolderLock
from mcontriever.errors import ConfigError, HubError, StoreError, UserError
from mcontriever.hosts import require_host
from mcontriever.progress import log, track
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.milvus_collection import ROWS_PER_CALL, batches, create_collection
from mcontriever.retrieval.vector_search.vectors import ArrayVectors, Vectors

MOST_RESULTS = 16_384  # Milvus returns no more for a query


@dataclass(frozen=True, eq=False)
class MilvusIndex:
    store: EmbeddingStore
    vectors: Vectors
    client: Any
    collection: str

    @classmethod
    def sync(cls, store: EmbeddingStore, vectors: Vectors, uri: str, centred: bool) -> dict[str, Any]:
        """Update a collection to the store's present rows, if possible by what changed. Returns what `open` needs."""
        uri, given_token = split_credentials(uri)
        client, collection = _connect(uri, given_token or token_of_environment()), _collection_name(store, centred)
        shards = [sorted(file.sha256 for file in shard.files.values()) for shard in store.manifest.shards]
        filled = _rows_filled(store, shards, uri, collection) if client.has_collection(collection) else 0
        if filled:
            gone = store.deleted_rows[store.deleted_rows < filled].tolist()
            for start in range(0, len(gone), ROWS_PER_CALL):
                client.delete(collection, ids=gone[start : start + ROWS_PER_CALL])
            words = _words_before(store)
        else:
            words = create_collection(client, collection, store.dimension, store.manifest.layout.keeps_text)
        added = 0
        with track(len(store) - filled, "filling milvus", "vectors") as progress:
            for batch in batches(store, vectors, filled, words is not None):
                client.upsert(collection, batch)
                added += len(batch)
                progress.advance(len(batch))
        client.flush(collection)
        facts = {"stored": len(store) - len(store.deleted_rows), "added": added, "centred": centred, "words": words}
        return {"uri": uri, "collection": collection, "shards": shards, **facts}

    @classmethod
    def open(cls, store: EmbeddingStore, vectors: Vectors, facts: dict[str, Any]) -> "MilvusIndex":
        uri, stored_token = split_credentials(facts["uri"])  # version 0.1.0 stored it
        is_there = "://" in uri or Path(uri).exists()
        token = token_of_environment() or stored_token
        client, collection = _connect(uri, token) if is_there else None, facts["collection"]
        if client is None or not client.has_collection(collection):
            raise StoreError(
                f"Milvus at {uri} has no collection {collection}",
                where=store.folder,
                fix=f"fill it: mcontriever index {store.folder} --kind milvus --uri {uri}",
            )
        client.load_collection(collection)
        return cls(store, vectors, client, collection)

    def search(
        self, queries_QH: np.ndarray, k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first, row -1 for none. Exact search answers what Milvus cannot."""
        allowed_N = self.store.live_N if allowed_N is None else allowed_N
        queries, condition = list(np.asarray(queries_QH, dtype=np.float32)), language_filter(self.store, allowed_N)

        def ask(depth: int) -> Any:
            return self.client.search(
                self.collection,
                data=queries,
                anns_field="vector",
                limit=depth,
                filter=condition,
                output_fields=["row"],  # servers before 2.4 do not name the primary key
                search_params={"metric_type": "IP"},
            )

        scores_QK, rows_QK, complete = rows_found(self.store, ask, k, allowed_N)
        allowed = np.arange(len(self.store)) if allowed_N is None else np.flatnonzero(allowed_N)
        found = int((rows_QK >= 0).sum(axis=1).min(initial=len(allowed)))
        if found < min(k, len(allowed)) and len(allowed) <= MOST_RESULTS:
            return self._among(allowed, queries_QH, k)
        if complete:
            return scores_QK, rows_QK
        log.warning("Milvus could not find enough rows among those allowed; searching exactly")
        return ExactSearch(self.vectors).search(queries_QH, k, allowed_N)

    def _among(self, rows_R: np.ndarray, queries_QH: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact search of few rows: an index that is a graph does not reach all of them when most are wanted."""
        scores_QK, places_QK = ExactSearch(ArrayVectors(self.vectors.take(rows_R))).search(queries_QH, k)
        return scores_QK, np.where(places_QK >= 0, rows_R[np.maximum(places_QK, 0)], -1)


def rows_found(
    store: EmbeddingStore, ask: Callable[[int], Any], k: int, allowed_N: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Scores and rows of Milvus's answers, and whether they are all that was wanted; else more are asked for.

    The collection may hold more rows than the store did when it was opened, and rows that were deleted since.
    """
    depth = min(k, MOST_RESULTS)
    while True:
        scores_QK, rows_QK, exhausted = _allowed(store, ask(depth), depth, allowed_N)
        is_full = k <= MOST_RESULTS and bool((rows_QK[:, min(k, rows_QK.shape[1]) - 1] >= 0).all())
        complete = exhausted or is_full
        if complete or depth == MOST_RESULTS:
            return scores_QK[:, :k], rows_QK[:, :k], complete
        depth = min(depth * 4, MOST_RESULTS)


def _allowed(
    store: EmbeddingStore, answers: Any, depth: int, allowed_N: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The rows of each answer that may be shown; True if Milvus has no more for any query."""
    width = min(depth, len(store))
    scores_QK, rows_QK = np.full((len(answers), width), -np.inf, np.float32), np.full((len(answers), width), -1)
    exhausted = True
    for number, answer in enumerate(answers):
        rows = np.array([hit["row"] for hit in answer], dtype=np.int64)
        scores = np.array([hit["distance"] for hit in answer], dtype=np.float32)
        kept = np.flatnonzero(rows < len(store))
        if allowed_N is not None:
            kept = kept[allowed_N[rows[kept]]]
        scores_QK[number, : len(kept)], rows_QK[number, : len(kept)] = scores[kept], rows[kept]
        exhausted &= len(rows) < depth
    return scores_QK, rows_QK, exhausted


def language_filter(store: EmbeddingStore, allowed_N: np.ndarray | None) -> str:
    """Milvus's condition for the languages of the rows allowed; deleted rows are filtered afterwards."""
    if allowed_N is None:
        return ""
    codes_N, names = store.languages
    codes = np.unique(codes_N[allowed_N])
    if len(codes) == len(names):
        return ""
    return f"language in {[names[code] for code in codes]}"


def update_collection(store: EmbeddingStore, vectors: Vectors, uri: str, centred: bool) -> None:
    """Make the collection what the store is, and note that it is."""
    facts = MilvusIndex.sync(store, vectors, uri, centred)
    derived.write(store, "milvus", lambda folder: None, **facts)
    where = f"{facts['collection']} at {facts['uri']}"
    without = (
        "for which this Milvus has no BM25" if store.manifest.layout.keeps_text else "which the store does not keep"
    )
    words = "and their words" if facts["words"] else f"without words, {without}"
    log.info(f"milvus: {facts['stored']:,} vectors {words}, {facts['added']:,} of them new, in {where}")


def keep_in_step(store: EmbeddingStore) -> None:
    """After documents came or went: the store's collection, if it has one of vectors as they are."""
    facts = derived.manifest_of(store, "milvus")
    if facts is None or facts["centred"] or derived.is_fresh(store, "milvus"):
        return
    try:
        with FolderLock(store.folder / derived.FOLDER, name=".lock-index", wait=True):
            update_collection(store, store, facts["uri"], centred=False)
    except UserError as error:
        log.warning(f"the Milvus collection is older than the store now, and is not searched: {error}")


def _rows_filled(store: EmbeddingStore, shards: list[list[str]], uri: str, collection: str) -> int:
    """How many of the store's first rows the collection holds; 0 if it must be filled again.

    All centred vectors change with their means, and compaction renumbers rows.
    """
    before = derived.manifest_of(store, "milvus")
    if (
        before is None
        or before["centred"]
        or (split_credentials(before["uri"])[0], before["collection"]) != (uri, collection)
    ):
        return 0
    known = before.get("shards")
    return before["rows"] if known and shards[: len(known)] == known else 0


def _words_before(store: EmbeddingStore) -> str | None:
    words = (derived.manifest_of(store, "milvus") or {}).get("words")
    return words if isinstance(words, str) else None


def split_credentials(uri: str) -> tuple[str, str]:
    """`http://user:secret@host` -> `http://host` and `user:secret`, which no manifest holds; a file's absolute path."""
    if "://" not in uri:
        return str(Path(uri).resolve()), ""
    scheme, rest = uri.split("://", 1)
    token, _, host = rest.rpartition("@")
    return f"{scheme}://{host}", unquote(token)


def token_of_environment() -> str:
    """`user:password` or a token, from MILVUS_TOKEN or from the file that MILVUS_TOKEN_FILE names."""
    file = os.environ.get("MILVUS_TOKEN_FILE")
    if not file:
        return os.environ.get("MILVUS_TOKEN", "")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        fix = "let MILVUS_TOKEN_FILE name a text file with user:password"
        raise ConfigError("the file of Milvus's token cannot be read", where=file, fix=fix) from error


def _connect(uri: str, token: str) -> Any:
    try:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException
    except ImportError as error:
        raise ConfigError("Milvus needs pymilvus", fix="pip install 'mcontriever[milvus]'") from error
    if "://" in uri:
        require_host(uri, "start the server, or use Milvus Lite: --uri ./milvus.db")
    elif not uri.endswith(".db"):
        raise ConfigError(f"{uri} is neither a URI nor a file name.db", fix="for example --uri ./milvus.db")
    else:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("grpc._server").setLevel(logging.CRITICAL)  # harmless complaints of Milvus Lite
    try:
        return MilvusClient(uri, token=token) if token else MilvusClient(uri)
    except MilvusException as error:
        raise HubError(f"Milvus does not answer: {error}", where=uri, fix="check the URI and the server") from error


def _collection_name(store: EmbeddingStore, centred: bool) -> str:
    """A name for each store, in the characters that Milvus allows."""
    folder = store.folder.resolve()
    readable = re.sub(r"[^A-Za-z0-9_]", "_", folder.name)[:64]
    mark = hashlib.sha256(f"{folder} {centred}".encode()).hexdigest()[:8]
    return f"mcontriever_{readable}_{mark}"
