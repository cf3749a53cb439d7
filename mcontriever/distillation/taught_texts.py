"""Texts to learn from a teacher's stores: which text is sample i, its tokens for the student, the teacher's vector.

    texts = TaughtTexts([group, ...], dimension=768)
    loader = TextLoader(texts, sampler, special=..., first_position=2, max_length=130, pairs=None)
    batch = loader.batch(np.arange(64))

A group is what one store has in one language; the sampler (see pretraining/sampling.py) draws groups and places in
them, as it draws languages and windows of token shards. `windows` gives the texts without the encoder's prefix, as
documents to crop, so that a contrastive loss can work on the same texts.

Shapes: B samples, N texts, H the teacher's dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from mcontriever.distillation.taught_batch import TaughtBatch
from mcontriever.ragged import IntArray, Ragged
from mcontriever.tokens import SpecialTokens, pack


class Vectors(Protocol):
    def take(self, rows_R: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class TextGroup:
    """Rows of one store in one language. `prefix` is how many tokens of each row are the encoder's prefix.

    `shift_H` is added to the vectors: see `language_shifts`.
    """

    language: str
    vectors: Vectors
    rows: IntArray
    tokens: Ragged
    prefix: int
    shift_H: np.ndarray | None = None


def language_shifts(means: Sequence[Mapping[str, np.ndarray]], language: str) -> dict[str, np.ndarray]:
    """How far each language's vectors are from those of `language` for equal contents.

    `means` are the mean vectors by language of some stores, each of the same contents in all its languages.
    """
    found: dict[str, list[np.ndarray]] = {}
    for one in means:
        for name, mean_H in one.items():
            found.setdefault(name, []).append(one[language] - mean_H)
    return {name: np.asarray(np.mean(shifts, axis=0, dtype=np.float32)) for name, shifts in found.items()}


class TaughtTexts:
    def __init__(self, groups: Sequence[TextGroup], dimension: int) -> None:
        self.groups = list(groups)
        self.dimension = dimension

    @property
    def languages(self) -> list[str]:
        """The sampler's names: a language of each store counts for itself."""
        return [f"{number} {group.language}" for number, group in enumerate(self.groups)]

    def tokens(self, group_B: IntArray, place_B: IntArray) -> Ragged:
        """With the encoder's prefix."""
        return self._gather(group_B, place_B, lambda group, rows: group.tokens.take(rows))

    def windows(self, language_N: IntArray, window_N: IntArray, phase_N: Any) -> tuple[IntArray, IntArray]:
        """Without it, as a token store gives windows: tokens back to back, and how many each text has."""
        texts = self._gather(language_N, window_N, _without_prefix)
        return texts.values_T.astype(np.int64), texts.lengths_N

    def vectors(self, group_B: IntArray, place_B: IntArray) -> np.ndarray:
        vectors_BH = np.empty((len(group_B), self.dimension), dtype=np.float32)
        for number in np.unique(group_B):
            here, group = group_B == number, self.groups[number]
            vectors_BH[here] = group.vectors.take(group.rows[place_B[here]])
            if group.shift_H is not None:
                vectors_BH[here] += group.shift_H
        return vectors_BH

    def _gather(self, group_B: IntArray, place_B: IntArray, read: Any) -> Ragged:
        parts, order = [], []
        for number in np.unique(group_B):
            here, group = np.flatnonzero(group_B == number), self.groups[number]
            parts.append(read(group, group.rows[place_B[here]]))
            order.append(here)
        return Ragged.join(parts).take(np.argsort(np.concatenate(order)))


class TextLoader:
    """`pairs` makes the contrastive loss's batch of the same samples; None means no such loss.

    `languages_G` numbers the language of each group as the training loop counts them.
    """

    def __init__(
        self,
        texts: TaughtTexts,
        sampler: Any,
        *,
        languages_G: IntArray,
        special: SpecialTokens,
        first_position: int,
        max_length: int,
        pairs: Any = None,
    ) -> None:
        self.texts, self.sampler, self.languages_G, self.pairs = texts, sampler, languages_G, pairs
        self.special, self.first_position, self.max_length = special, first_position, max_length

    def batch(self, samples: IntArray) -> TaughtBatch:
        drawn = self.sampler.draw(samples)
        tokens = self.texts.tokens(drawn.language, drawn.window)
        contrasted = None if self.pairs is None else self.pairs(samples)
        return TaughtBatch(
            taught=pack(tokens.values_T, tokens.lengths_N, self.special, self.first_position, self.max_length),
            teacher_NH=torch.from_numpy(self.texts.vectors(drawn.language, drawn.window)),
            language_R=torch.from_numpy(self.languages_G[drawn.language]),
            contrasted=contrasted,
        )


def _without_prefix(group: TextGroup, rows: IntArray) -> Ragged:
    texts = group.tokens.take(rows)
    prefix_B = np.minimum(group.prefix, np.maximum(texts.lengths_N - 1, 0))  # a crop must have something to hold
    return texts.cut(prefix_B, texts.lengths_N - prefix_B)
