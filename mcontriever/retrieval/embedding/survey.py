"""One pass over a corpus before any model runs: every line parses, ids are unique, sizes, and where shards end.

Memory: 12 bytes a document (a 64-bit hash of its id and the length of its text).
"""

import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np

from mcontriever.drops import Drops
from mcontriever.errors import DataError
from mcontriever.progress import track
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.store.shard_files import hash_of_id
from mcontriever.texts.documents import Document

SHARDS_WANTED = 32
SHARD_MIN_DOCUMENTS = 512
SHARD_MAX_DOCUMENTS = 10_000
SHARD_MAX_CHARACTERS = 1 << 26


@dataclass(frozen=True)
class Survey:
    """`shard_ends[i]` is the number of documents before the end of shard i; `content` is a hash of all documents."""

    documents: int
    characters: int
    drops: Drops
    languages: dict[str, int]
    content: str
    shard_ends: tuple[int, ...]
    id_hashes_N: np.ndarray


def survey(corpus: Corpus, shard_documents: int | None = None) -> Survey:
    id_hashes, lengths, languages = array("Q"), array("I"), Counter[str]()
    content, drops = hashlib.blake2b(digest_size=16), Drops()
    with track(None, "reading the corpus", "documents") as progress:
        for place, document in corpus.documents():
            id_hashes.append(hash_of_id(document.id))
            lengths.append(len(document.text) + len(document.title))
            languages[document.language] += 1
            content.update("\0".join((document.id, document.title, document.text, document.language, "")).encode())
            if is_empty(document):
                drops.count("empty", place)
            progress.advance()
    hashes_N, lengths_N = np.frombuffer(id_hashes, dtype=np.uint64), np.frombuffer(lengths, dtype=np.uint32)
    if len(hashes_N) == drops.total():
        raise DataError(
            f"no document with a text ({drops.total()} empty)", where=corpus.path, fix="check the corpus's path"
        )
    _refuse_twice(corpus, hashes_N)
    return Survey(
        documents=len(hashes_N),
        characters=int(lengths_N.sum(dtype=np.int64)),
        drops=drops,
        languages=dict(languages.most_common()),
        content=content.hexdigest(),
        shard_ends=shard_ends(lengths_N, shard_documents),
        id_hashes_N=hashes_N,
    )


def is_empty(document: Document) -> bool:
    return not document.text.strip() and not document.title.strip()


def shard_ends(lengths_N: np.ndarray, shard_documents: int | None = None) -> tuple[int, ...]:
    """Shards of at most N documents, fewer if their texts are long. Depends on the corpus alone."""
    most = shard_documents or min(max(len(lengths_N) // SHARDS_WANTED, SHARD_MIN_DOCUMENTS), SHARD_MAX_DOCUMENTS)
    ends, start = [], 0
    characters = np.concatenate([[0], np.cumsum(lengths_N, dtype=np.int64)])
    while start < len(lengths_N):
        full = int(np.searchsorted(characters, characters[start] + SHARD_MAX_CHARACTERS, side="right")) - 1
        start = max(min(start + most, full), start + 1)
        ends.append(min(start, len(lengths_N)))
    return tuple(ends)


def _refuse_twice(corpus: Corpus, hashes_N: np.ndarray) -> None:
    """If hashes are equal, the corpus is read again to compare the ids and to name both places."""
    ordered = np.sort(hashes_N)
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not suspects:
        return
    seen: dict[str, str] = {}
    for place, document in corpus.documents():
        if hash_of_id(document.id) in suspects:
            if document.id in seen:
                raise DataError(
                    f"the id {document.id!r} is a duplicate: first at {seen[document.id]}",
                    where=place,
                    fix="give each document its own id, or remove one of the two",
                )
            seen[document.id] = place
