"""The objective `distil` of pre-training: a teacher's texts as batches, and crops for a contrastive loss."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mcontriever.assembly.objectives import PretrainingDistil
from mcontriever.assembly.opened_taught_texts import OpenedTexts
from mcontriever.assembly.training_config import PretrainConfig
from mcontriever.distillation.taught_texts import TextLoader
from mcontriever.errors import ConfigError
from mcontriever.pretraining.crops import CropSource, View
from mcontriever.pretraining.pairs import TokenPairs
from mcontriever.ragged import IntArray
from mcontriever.tokens import SPECIALS_PER_ROW, SpecialTokens


def check_taught(config: PretrainConfig, rows: int) -> None:
    """`rows` texts meet in one loss."""
    data, objective = config.data, config.objective
    if not isinstance(objective, PretrainingDistil):
        if data.texts is not None or data.tokens is None:
            raise ConfigError(
                f"data.texts are a teacher's, but the objective {objective.kind} learns from none",
                fix="choose the objective distil (with objective.contrast), or give data.tokens alone",
            )
        return
    if data.texts is None:
        raise ConfigError(
            "the objective distil needs a teacher's texts", fix="name the stores that hold them: data.texts.stores"
        )
    if objective.scores_weight and rows < 2:
        raise ConfigError(
            f"a batch of {rows} text over all processes has no scores to compare",
            fix="raise deepspeed.train_micro_batch_size_per_gpu, or set objective.scores_weight to 0",
        )
    if data.tokens is not None and objective.contrast is None:
        raise ConfigError(
            "data.tokens is given, but no contrastive loss that would use it",
            fix="add objective.contrast, or omit data.tokens",
        )
    if data.tokens is None and data.code_switch is not None and data.code_switch.inflected:
        raise ConfigError(
            "data.code_switch.inflected looks for words in data.tokens, which is not given",
            fix="set it to false, or give data.tokens",
        )


def text_batches(
    opened: OpenedTexts,
    max_tokens: int,
    languages: list[str],
    pairs: Callable[[np.ndarray], Any] | None,
    *,
    special: SpecialTokens,
    first_position: int,
) -> Callable[[np.ndarray], Any]:
    """`languages` are those that the run counts."""
    numbers_G = np.array([languages.index(group.language) for group in opened.texts.groups], dtype=np.int64)
    loader = TextLoader(
        opened.texts,
        opened.sampler,
        languages_G=numbers_G,
        special=special,
        first_position=first_position,
        max_length=max_tokens + SPECIALS_PER_ROW,
        pairs=pairs,
    )
    return loader.batch


class CropsOfTexts:
    """Pairs that are crops of a teacher's texts, as crops of windows are; their languages are languages again."""

    def __init__(self, opened: OpenedTexts, view: View, seed: int) -> None:
        self.crops = CropSource(opened.texts, opened.sampler, view, seed=seed)
        self.languages_G = opened.languages_G

    def draw(self, samples: IntArray) -> TokenPairs:
        pairs = self.crops.draw(samples)
        return TokenPairs(pairs.queries, pairs.keys, self.languages_G[pairs.language_B], pairs.text_B)
