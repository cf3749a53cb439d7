"""BM25's score of every term in every row, in the arrays of bm25s, made in bounded memory.

What each row holds goes to a file, block after block, and so do the scores: in memory are the vocabulary, one number a
row, and one block. Scores are sorted by term, then by row.

Shapes: N rows, V terms, P pairs of a row and one of its terms, B pairs of a block.
"""

import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

K1, B = 1.5, 0.75  # bm25s's own
PAIRS_AT_ONCE = 1 << 20
PAIR = np.dtype([("row", np.int32), ("term", np.int32), ("count", np.float32)])

Tokenize = Callable[[Sequence[str]], list[list[str]]]


def idf(rows: np.ndarray | int, rows_with_V: np.ndarray) -> np.ndarray:
    """As in Lucene and bm25s."""
    found: np.ndarray = np.log1p((rows - rows_with_V + 0.5) / (rows_with_V + 0.5))
    return found


def score_terms(
    texts: Iterable[Sequence[str]], tokenize: Tokenize, scratch: Path | None
) -> tuple[dict[str, int], dict[str, Any]]:
    """The number of each term, and bm25s's `scores`. Files that nobody sees lie in `scratch`."""
    vocabulary: dict[str, int] = {}
    lengths = array("i")
    with tempfile.TemporaryFile(dir=scratch) as spool:
        for batch in texts:
            spool.write(_count_terms(batch, tokenize, vocabulary, lengths).tobytes())
        if not vocabulary:  # bm25s needs a row and a term; no query has this one
            vocabulary[""] = 0
            lengths.extend([0] if not lengths else [])
            lengths[0] = 1
            spool.write(np.array([(0, 0, 1)], dtype=PAIR).tobytes())
        lengths_N = np.frombuffer(lengths, dtype=np.int32)
        return vocabulary, _scores(spool, lengths_N, len(vocabulary), scratch)


def _count_terms(
    batch: Sequence[str], tokenize: Tokenize, vocabulary: dict[str, int], lengths: "array[int]"
) -> np.ndarray:
    """How often each row of a batch has each of its terms; new terms and the rows' lengths are added."""
    tokenized, first = tokenize(batch), len(lengths)
    lengths.extend(map(len, tokenized))
    terms = np.array(
        [vocabulary.setdefault(term, len(vocabulary)) for row in tokenized for term in row], dtype=np.int64
    )
    rows = first + np.repeat(np.arange(len(tokenized)), np.array(lengths[first:], dtype=np.int64))
    both, counts = np.unique(rows << 32 | terms, return_counts=True)
    pairs = np.empty(len(both), dtype=PAIR)
    pairs["row"], pairs["term"], pairs["count"] = both >> 32, both & 0xFFFFFFFF, counts
    return pairs


def _scores(spool: IO[bytes], lengths_N: np.ndarray, terms: int, scratch: Path | None) -> dict[str, Any]:
    rows_with_V = np.zeros(terms, dtype=np.int64)
    for pairs_B in _blocks(spool):
        rows_with_V += np.bincount(pairs_B["term"], minlength=terms)
    ends_V = np.cumsum(rows_with_V)
    data_P = _in_file(scratch, np.float32, int(ends_V[-1]))
    rows_P = _in_file(scratch, np.int32, int(ends_V[-1]))
    idf_V, mean = idf(len(lengths_N), rows_with_V), lengths_N.mean()
    next_V = ends_V - rows_with_V
    for pairs_B in _blocks(spool):
        pairs_B = pairs_B[np.argsort(pairs_B["term"], kind="stable")]
        term_B, count_B = pairs_B["term"], pairs_B["count"].astype(np.float64)
        counts_V = np.bincount(term_B, minlength=terms)
        place_in_block_V = np.cumsum(counts_V) - counts_V
        places_B = (next_V - place_in_block_V)[term_B] + np.arange(len(pairs_B))
        weight_B = K1 * (1 - B + B * lengths_N[pairs_B["row"]] / mean)
        data_P[places_B] = idf_V[term_B] * count_B / (weight_B + count_B)
        rows_P[places_B] = pairs_B["row"]
        next_V += counts_V
    starts = np.concatenate([[0], ends_V])
    return {"data": data_P, "indices": rows_P, "indptr": starts, "num_docs": len(lengths_N)}


def _blocks(spool: IO[bytes]) -> Iterator[np.ndarray]:
    spool.seek(0)
    while len(pairs_B := np.fromfile(spool, dtype=PAIR, count=PAIRS_AT_ONCE)):
        yield pairs_B


def _in_file(scratch: Path | None, dtype: Any, count: int) -> np.ndarray:
    """The place is reserved: on a full disk this fails, where a map that the disk cannot hold would end the process."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        os.posix_fallocate(file.fileno(), 0, count * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype=dtype, mode="r+", shape=(count,)).view(np.ndarray)
