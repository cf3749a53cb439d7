"""Where a teacher's store has the vector of each text: by the text itself, so that no other text's is taken.

    rows_N = find_rows(store_hashes, texts_hashes)

Shapes: N texts looked up, S rows of the store.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from mcontriever.errors import StoreError


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """A 64-bit hash of each text without blanks around it."""
    digests = (hashlib.blake2b(text.strip().encode(errors="replace"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def find_rows(store_S: np.ndarray, wanted_N: np.ndarray) -> np.ndarray:
    """The first row with each hash; -1 where the store has none."""
    order = np.argsort(store_S, kind="stable")
    places_N = np.minimum(np.searchsorted(store_S[order], wanted_N), max(len(store_S) - 1, 0))
    if not len(store_S):
        return np.full(len(wanted_N), -1, dtype=np.int64)
    return np.where(store_S[order][places_N] == wanted_N, order[places_N], -1)


def refuse_missing(rows_N: np.ndarray, what: str, example: str, store: object, command: str) -> None:
    """`example` is the first missing text."""
    missing = int((rows_N < 0).sum())
    if missing:
        shown = example if len(example) <= 60 else example[:60] + "..."
        others = "it is a store of other texts" if missing == len(rows_N) else "the texts have changed since"
        raise StoreError(
            f"the teacher's store has no vector for {missing:,} of {len(rows_N):,} {what} ({others}); "
            f"the first is {shown!r}",
            where=store,
            fix=f"embed them as they are now: {command}",
        )
