"""The kinds of index that `mcontriever index --kind` makes. A new kind of lists is one entry in LISTS.

flat-int8 every vector in 8 bits                  bytes a vector: H     as right as exact search (rounded_index.py)
flat      every vector in fp32                     4 H
hnsw      a graph over fp32 vectors                4 H + 272
ivf-sq    lists of 8-bit vectors                   H + 8
ivf-pq    lists of vectors in 4 bits a pair        H / 4 + 8
rabitq    lists of 1-bit vectors                   H / 8 + 16
"""

from collections.abc import Callable
from dataclasses import dataclass

FLAT_INT8 = "flat-int8"
HNSW_LINKS = 32


@dataclass(frozen=True)
class ListKind:
    """Lists of compressed vectors; each field but the last is a function of the dimensions.

    `codes` is FAISS's name of the compression. The lists only propose rows, `proposed` for each one wanted; scores come
    from the store's own vectors.
    """

    codes: Callable[[int], str]
    bytes_per_vector: Callable[[int], float]
    proposed: int


LISTS = {
    "ivf-sq": ListKind(lambda dimension: "SQ8", lambda dimension: dimension + 8, proposed=2),
    "ivf-pq": ListKind(lambda dimension: _four_bits(dimension), lambda dimension: dimension / 4 + 8, proposed=8),
    "rabitq": ListKind(lambda dimension: "RaBitQ", lambda dimension: dimension / 8 + 16, proposed=8),
}
FAISS_KINDS = ("flat", "hnsw", *LISTS)
KINDS = ("auto", FLAT_INT8, *FAISS_KINDS, "milvus", "bm25")


def bytes_per_vector(kind: str, dimension: int) -> float:
    if kind in LISTS:
        return LISTS[kind].bytes_per_vector(dimension)
    if kind == FLAT_INT8:
        return dimension
    return 4 * dimension + (2 * HNSW_LINKS * 4 + 16 if kind == "hnsw" else 0)


def proposed_per_wanted(kind: str) -> int:
    return LISTS[kind].proposed if kind in LISTS else 1


def _four_bits(dimension: int) -> str:
    """Pairs of dimensions share four bits; an odd number of dimensions cannot be cut into pairs."""
    return f"PQ{dimension // 2 if dimension % 2 == 0 else dimension}x4fsr"
