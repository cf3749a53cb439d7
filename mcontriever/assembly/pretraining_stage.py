"""The stage `pretrain`: pairs of crops from raw text, and the objective over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever.assembly.distilled_texts import check_taught, text_batches
from mcontriever.assembly.objectives import PretrainingDistil
from mcontriever.assembly.opened_taught_texts import OpenedTexts, open_texts
from mcontriever.assembly.pretraining_pairs import open_pairs
from mcontriever.assembly.training_config import PretrainConfig
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError
from mcontriever.pretraining.moco import QueueSettings
from mcontriever.pretraining.pairs import PairLoader, PairSource
from mcontriever.tokens import SPECIALS_PER_ROW, prefix_tokens
from mcontriever.training.engine_settings import autocast_dtype, rows_in_a_loss


@dataclass(frozen=True)
class PretrainingStage:
    config: PretrainConfig
    settings: Mapping[str, Any]

    def check(self) -> None:
        """A query that meets no negative has loss 0 and teaches nothing."""
        contrast = self.config.contrast
        check_taught(self.config, rows_in_a_loss(self.settings))
        if contrast is not None and not isinstance(contrast, QueueSettings):
            self._check_in_batch(contrast.kind)
        if isinstance(contrast, QueueSettings) and self.config.run.asam is not None:
            raise ConfigError(
                f"run.asam needs two forwards a step, and the objective {contrast.kind} would queue its keys twice",
                fix="omit run.asam, or choose another objective",
            )

    def _check_in_batch(self, kind: str) -> None:
        rows, view = rows_in_a_loss(self.settings), self.config.data.view
        if rows < 2:
            raise ConfigError(
                f"a batch of {rows} pair over all processes has no negatives",
                fix="raise deepspeed.train_micro_batch_size_per_gpu, or choose the objective moco",
            )
        if view.kind == "crops" and view.keys_per_query > 1:
            raise ConfigError(
                f"data.view.keys_per_query is {view.keys_per_query}, but the objective {kind} takes one key per query",
                fix="set data.view.keys_per_query to 1, or choose the objective relevance",
            )

    def open(self, tokenizer: Any, folder: Path) -> "OpenedPretraining":
        config, seed = self.config, self.config.run.seed
        texts = None
        if config.data.texts is not None:
            texts = open_texts(config.data, config.encoder, tokenizer, folder, seed)
        if config.contrast is None:
            assert texts is not None, "checked before anything was opened"
            return OpenedPretraining(config, self.settings, None, texts, texts.languages)
        pairs, languages = open_pairs(config.data, texts, tokenizer, folder, seed=seed)
        languages += [name for name in (texts.languages if texts else []) if name not in languages]
        return OpenedPretraining(config, self.settings, pairs, texts, languages)


@dataclass(frozen=True)
class OpenedPretraining:
    """Pairs for a contrastive loss, a teacher's texts, or both."""

    config: PretrainConfig
    settings: Mapping[str, Any]
    pairs: PairSource | None
    texts: OpenedTexts | None
    languages: list[str]

    def objective(self, encoder: Encoder) -> torch.nn.Module:
        contrast = self._contrast(encoder)
        if isinstance(self.config.objective, PretrainingDistil):
            assert self.texts is not None
            dimension, seed = self.texts.texts.dimension, self.config.run.seed
            return self.config.objective.objective(encoder, contrast, dimension, unit=self.texts.unit, seed=seed)
        assert contrast is not None
        return contrast

    def _contrast(self, encoder: Encoder) -> torch.nn.Module | None:
        if self.config.contrast is None:
            return None
        has_layers = encoder.backbone.config.num_hidden_layers > 0  # a bag of subwords has no products to make faster
        dtype = torch.bfloat16 if autocast_dtype(self.settings) and has_layers else None
        return self.config.contrast.objective(encoder, key_compute_dtype=dtype)

    def batches(self, encoder: Encoder) -> Callable[[np.ndarray], Any]:
        special, first_position = encoder.special, encoder.first_position
        pairs = None if self.pairs is None else self._loader(self.pairs, encoder).batch
        if self.texts is None:
            assert pairs is not None
            return pairs
        assert self.config.data.texts is not None
        max_tokens = self.config.data.texts.max_tokens
        return text_batches(
            self.texts, max_tokens, self.languages, pairs, special=special, first_position=first_position
        )

    def _loader(self, pairs: PairSource, encoder: Encoder) -> PairLoader:
        query_prefix = prefix_tokens(encoder.tokenizer, encoder.query_prefix)
        key_prefix = prefix_tokens(encoder.tokenizer, encoder.document_prefix)
        room = encoder.backbone.config.max_position_embeddings - encoder.first_position
        room -= max(len(query_prefix), len(key_prefix))
        return PairLoader(
            pairs,
            special=encoder.special,
            first_position=encoder.first_position,
            max_length=min(self.config.data.longest_text() + SPECIALS_PER_ROW, room),
            query_prefix=query_prefix,
            key_prefix=key_prefix,
        )
