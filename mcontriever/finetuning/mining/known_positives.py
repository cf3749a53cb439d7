"""The texts known to answer a query: the positives of every example with the same question.

Shapes: E examples, Q queries of a block, P positives of a query at most.
"""

from functools import cached_property

import numpy as np

from mcontriever.finetuning.examples.training_set import TrainingSet
from mcontriever.finetuning.mining.hard_negatives import NO_KEY


class KnownPositives:
    def __init__(self, examples: TrainingSet) -> None:
        self.examples = examples

    def keys_of(self, rows_Q: np.ndarray) -> np.ndarray:
        """keys_QP, the example's own positives first, then NO_KEY."""
        found = [self._keys(int(row)) for row in rows_Q]
        keys_QP = np.full((len(found), max(len(keys) for keys in found)), NO_KEY, dtype=np.uint64)
        for number, keys in enumerate(found):
            keys_QP[number, : len(keys)] = keys
        return keys_QP

    def _keys(self, row: int) -> list[int]:
        key = self._query_keys_E[row]
        first, last = (int(np.searchsorted(self._sorted_keys_E, key, side=side)) for side in ("left", "right"))
        same = [row, *self._order_E[first:last].tolist()]
        passages = np.concatenate([self.examples.positives[example] for example in same])
        return list(dict.fromkeys(self.examples.passages.text_keys_N[passages].tolist()))

    @cached_property
    def _query_keys_E(self) -> np.ndarray:
        return np.asarray(self.examples.queries.text_keys_N[self.examples.query_rows_E])

    @cached_property
    def _order_E(self) -> np.ndarray:
        return np.argsort(self._query_keys_E, kind="stable")

    @cached_property
    def _sorted_keys_E(self) -> np.ndarray:
        return self._query_keys_E[self._order_E]
