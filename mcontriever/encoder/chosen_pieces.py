"""Which pieces of a vocabulary to keep for some languages, so that none loses its own because it has little text.

Half of the places go by quota: equally many of its most frequent pieces for every language. The other half goes to the
pieces that are used most, and the languages' texts count as if they were equally long. By frequency in all the text
together, the languages with little text would lose their pieces first.

A text of one domain lacks common words of others: statutes contain no questions. A Unigram vocabulary knows from the
text that it was trained on how probable each piece is, so a piece counts by the geometric mean of both.

Shapes: L languages, V pieces.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from mcontriever.errors import ConfigError

Ids = npt.NDArray[np.int64]
QUOTA_SHARE = 0.5


def choose_pieces(
    counts_LV: npt.NDArray[np.int64],
    pieces: int,
    *,
    always: set[int],
    parts_of: Mapping[int, tuple[int, ...]],
    weights_L: npt.NDArray[np.float64] | None = None,
    probable_V: npt.NDArray[np.float64] | None = None,
) -> Ids:
    """The ids of `pieces` pieces in rising order; those that no language uses come last, in the vocabulary's order.

    `always` stay whatever their count. A piece of a BPE vocabulary needs the two parts that it is merged from.
    A language of weight 2 has twice the quota, and its text counts twice. `probable_V` is what the vocabulary says.
    """
    use_LV = counts_LV / counts_LV.sum(1, keepdims=True).clip(1)
    if probable_V is not None:
        use_LV = np.sqrt(use_LV * probable_V)
    weights_L = np.ones(len(counts_LV)) if weights_L is None else weights_L
    kept = set(with_parts(always, parts_of).tolist())
    if len(kept) > pieces:
        raise ConfigError(
            f"{pieces:,} pieces are too few: special tokens and the single characters of the scripts are {len(kept):,}",
            fix=f"set --pieces to more than {len(kept):,}, or choose languages of fewer scripts",
        )
    by_quota = len(kept) + int(QUOTA_SHARE * (pieces - len(kept)))
    _fill(kept, _by_best_rank(use_LV, weights_L).tolist(), by_quota, parts_of)
    _fill(kept, np.argsort(-(weights_L @ use_LV), kind="stable").tolist(), pieces, parts_of)
    return np.array(sorted(kept), dtype=np.int64)


def with_parts(pieces: set[int], parts_of: Mapping[int, tuple[int, ...]]) -> Ids:
    """These pieces and those that they are merged from, in rising order."""
    found, waiting = set[int](), list(pieces)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(parts_of.get(one, ()))
    return np.array(sorted(found), dtype=np.int64)


def _fill(kept: set[int], order: Iterable[int], most: int, parts_of: Mapping[int, tuple[int, ...]]) -> None:
    """In place, up to `most`. What would need too many parts is skipped."""
    for piece in order:
        if len(kept) == most:
            return
        if piece not in kept:
            new = set(with_parts({piece}, parts_of).tolist()) - kept
            if len(kept) + len(new) <= most:
                kept |= new


def _by_best_rank(use_LV: npt.NDArray[np.float64], weights_L: npt.NDArray[np.float64]) -> Ids:
    """All pieces: first those that are the most used of some language, then the second, and so on."""
    best_V = np.full(use_LV.shape[1], np.inf)
    for use_V, weight in zip(use_LV, weights_L, strict=True):
        used = np.argsort(-use_V, kind="stable")[: int((use_V > 0).sum())]
        best_V[used] = np.minimum(best_V[used], np.arange(len(used)) / weight)
    return np.argsort(best_V, kind="stable")
