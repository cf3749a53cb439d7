"""Pairs of texts that belong together: plain tokens while views are made, then packed for the encoder.

Anything with `draw(samples) -> TokenPairs` is a source of pairs: crops of windows, two columns of a file, a mixture,
or another source with augmentation. `PairLoader(source, ...).batch(samples)` packs what it draws. All of them are pure
functions of the sample numbers, so any rank may ask for any samples at any step.

Shapes: B pairs, n keys for each query (rows i*n to (i+1)*n of the keys belong to query i).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from mcontriever.ragged import IntArray, Ragged
from mcontriever.tokens import SPECIALS_PER_ROW, PackedBatch, SpecialTokens, pack

MOST_VIEWS = 64  # of one text: a query and its keys


@dataclass(frozen=True, eq=False)
class TokenPairs:
    """B queries and their B*n keys, without special tokens.

    `text_B` names the text each pair was made from: pairs of one text are never each other's negatives.
    """

    queries: Ragged
    keys: Ragged
    language_B: IntArray
    text_B: IntArray

    @property
    def keys_per_query(self) -> int:
        return len(self.keys) // len(self.queries)

    def take(self, rows: IntArray) -> "TokenPairs":
        key_rows = (rows[:, None] * self.keys_per_query + np.arange(self.keys_per_query)).ravel()
        return TokenPairs(self.queries.take(rows), self.keys.take(key_rows), self.language_B[rows], self.text_B[rows])

    @classmethod
    def join(cls, parts: Sequence["TokenPairs"]) -> "TokenPairs":
        return cls(
            Ragged.join([part.queries for part in parts]),
            Ragged.join([part.keys for part in parts]),
            np.concatenate([part.language_B for part in parts]),
            np.concatenate([part.text_B for part in parts]),
        )


class PairSource(Protocol):
    def draw(self, samples: IntArray) -> TokenPairs: ...


@dataclass(frozen=True, eq=False)
class PairBatch:
    """What an objective takes. `sample_B` numbers the samples of the whole run, `language_B` and `text_B` as above."""

    queries: PackedBatch
    keys: PackedBatch
    language_B: torch.Tensor
    sample_B: torch.Tensor
    text_B: torch.Tensor

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def keys_per_query(self) -> int:
        return len(self.keys) // len(self.queries)

    def to(self, device: str | torch.device, *, non_blocking: bool = False) -> "PairBatch":
        moved = {name: value.to(device, non_blocking=non_blocking) for name, value in vars(self).items()}
        return PairBatch(**moved)

    def stats(self) -> dict[str, float]:
        """Tokens, rows, rows that packing cut, and the share of positions that padding to the longest would waste."""
        sides = (self.queries, self.keys)
        tokens = sum(side.token_ids_T.shape[0] for side in sides)
        padded = sum(len(side) * side.max_length for side in sides)
        return {
            "tokens": float(tokens),
            "rows": float(sum(len(side) for side in sides)),
            "truncated": float(sum(side.truncated for side in sides)),
            "padding_saved": 1 - tokens / padded,
        }


class PairLoader:
    """The last step of every source: the encoder's prefixes, special tokens, positions, tensors.

    `max_length` counts special tokens and no prefix; the prefixes are the token ids of "query: " and the like.
    """

    def __init__(
        self,
        source: PairSource,
        *,
        special: SpecialTokens,
        first_position: int,
        max_length: int,
        query_prefix: Sequence[int] = (),
        key_prefix: Sequence[int] = (),
    ) -> None:
        assert max_length > SPECIALS_PER_ROW
        self.query_prefix, self.key_prefix = query_prefix, key_prefix
        self.source = source
        self.special = special
        self.first_position = first_position
        self.max_length = max_length

    def batch(self, samples: IntArray) -> PairBatch:
        samples = np.asarray(samples, dtype=np.int64)
        pairs = self.source.draw(samples)
        return PairBatch(
            queries=self._pack(pairs.queries, self.query_prefix),
            keys=self._pack(pairs.keys, self.key_prefix),
            language_B=torch.from_numpy(pairs.language_B),
            sample_B=torch.from_numpy(samples),
            text_B=torch.from_numpy(pairs.text_B),
        )

    def _pack(self, rows: Ragged, prefix: Sequence[int]) -> PackedBatch:
        if len(prefix):
            rows = Ragged.of([[*prefix, *row] for row in (rows[number] for number in range(len(rows)))])
        max_length = self.max_length + len(prefix)
        return pack(rows.values_T, rows.lengths_N, self.special, self.first_position, max_length)
