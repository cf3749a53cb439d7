"""Counter-based random numbers: every random choice about sample i is a pure function of (seed, stream, i).

Nothing here has state, so any rank, any world size and any step of a resumed run draws the same numbers. The mixing
is splitmix64's finaliser, applied to a key made of the seed, a named stream, and the indices.
"""

import hashlib

import numpy as np
import numpy.typing as npt

UInt64Array = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_FEISTEL_ROUNDS = 6


def random_bits(seed: int, stream: str, *indices: npt.ArrayLike) -> UInt64Array:
    """64 random bits for every element of the (broadcast) index arrays."""
    state = np.asarray(_stream_key(seed, stream))
    for index in indices:
        values = np.asarray(index).astype(np.uint64)
        with np.errstate(over="ignore"):
            state = _mix(state ^ _mix(values * _GOLDEN + _GOLDEN))
    return _mix(state)


def uniform(seed: int, stream: str, *indices: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) with 53 random bits."""
    return (random_bits(seed, stream, *indices) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(seed: int, stream: str, *indices: npt.ArrayLike, high: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Whole numbers in [0, high); `high` broadcasts against the indices."""
    drawn = np.floor(uniform(seed, stream, *indices) * np.asarray(high, dtype=np.float64)).astype(np.int64)
    return np.minimum(drawn, np.asarray(high, dtype=np.int64) - 1)


def permuted(
    seed: int, stream: str, size: npt.ArrayLike, index: npt.ArrayLike, *key: npt.ArrayLike
) -> npt.NDArray[np.int64]:
    """Where each index of range(size) goes under a pseudo-random permutation that is never stored.

    A balanced Feistel network is a bijection on the next power of four; indices that fall outside range(size) follow
    their cycle until they are inside. `key` are more numbers that select the permutation (an epoch, for example);
    `size` may differ from index to index.
    """
    index_array = np.asarray(index, dtype=np.int64)
    sizes = np.broadcast_to(np.asarray(size, dtype=np.int64), index_array.shape)
    assert np.all(index_array >= 0)
    assert np.all(index_array < sizes)
    bits = np.frexp(np.maximum(sizes - 1, 1).astype(np.float64))[1]  # how many a number below `size` takes
    half_bits = np.maximum(1, (bits + 1) // 2).astype(np.uint64)
    keys = np.broadcast_to(random_bits(seed, stream, *key), index_array.shape)
    values = index_array.astype(np.uint64)
    outside = np.ones(values.shape, dtype=bool)
    while outside.any():
        values[outside] = _feistel(values[outside], keys[outside], half_bits[outside])
        outside = values.astype(np.int64) >= sizes
    return values.astype(np.int64)


def _feistel(values: UInt64Array, keys: UInt64Array, half_bits: UInt64Array) -> UInt64Array:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    with np.errstate(over="ignore"):
        for round_number in range(_FEISTEL_ROUNDS):
            mixed = _mix(keys + np.uint64(round_number + 1) * _GOLDEN ^ right)
            left, right = right, left ^ (mixed >> (np.uint64(64) - half_bits))
    return (left << half_bits) | right


def _mix(values: UInt64Array) -> UInt64Array:
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _MIX_1
        values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def _stream_key(seed: int, stream: str) -> np.uint64:
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
