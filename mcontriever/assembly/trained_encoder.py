"""The encoder that a run trains: the checkpoint's, a model by name, or one with random weights."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mcontriever.assembly.training_config import TrainConfig
from mcontriever.encoder import Encoder
from mcontriever.encoder.bag_of_subwords import unfold_token_weights
from mcontriever.encoder.frozen_weights import freeze
from mcontriever.encoder.new_backbone import is_weighted_bag
from mcontriever.encoder.rounded_training import feel_rounding
from mcontriever.encoder.token_encoder import TokenEncoder
from mcontriever.encoder.two_encoders import TwoEncoders, parts_of
from mcontriever.errors import ConfigError
from mcontriever.finetuning.late_interaction import LateInteraction
from mcontriever.tokens import SPECIALS_PER_ROW
from mcontriever.training.checkpoints import MODEL
from mcontriever.training.engine_settings import autocast_dtype


def open_encoder(config: TrainConfig, tokenizer: Any, checkpoint: Path | None) -> Encoder:
    section = config.encoder
    encoder = _from_origin(config, tokenizer, checkpoint)
    if section.own_query_encoder and not isinstance(encoder, TwoEncoders):
        encoder = TwoEncoders(copy.deepcopy(encoder), encoder)
    if isinstance(encoder, TwoEncoders):
        check_two_encoders(config)
    for part in parts_of(encoder):
        stays = section.frozen_passages and part is encoder  # to the bit, or its stores would not be searched
        if not stays and section.name is not None and is_weighted_bag(vars(part.backbone.config)):
            part.token_weights = unfold_token_weights(part.backbone, scale_free=part.normalize)
        part.checkpoint_layers = section.checkpoint_layers
        part.precision = "auto" if autocast_dtype(config.deepspeed) else "float32"  # of dev scores
        if section.dropout is not None:
            _set_dropout(part.backbone, section.dropout)
        if section.rounding is not None and not stays:
            feel_rounding(part.backbone)
        freeze(part.backbone, embeddings=bool(section.frozen_embeddings), layers=section.frozen_layers or 0)
    if isinstance(encoder, TwoEncoders) and section.frozen_passages:
        encoder.freeze_passages()
    room = encoder.backbone.config.max_position_embeddings - encoder.first_position - SPECIALS_PER_ROW
    longest = config.data.longest_text()
    if longest > room:
        raise ConfigError(
            f"data.window (or max_tokens) is {longest} tokens, the encoder takes {room} between its special tokens",
            fix=f"set data.window, and max_tokens of column_pairs, to {room} or less",
        )
    return encoder


def check_two_encoders(config: TrainConfig) -> None:
    """Crops have no query side; a teacher's vectors, and a ColBERT's, are one space for all texts."""
    objective = config.objective.kind
    if config.stage == "pretrain" or objective in ("distil", "late_interaction"):
        raise ConfigError(
            f"two encoders, one for queries, are for fine-tuning on labelled queries, not for {objective}",
            fix="omit encoder.own_query_encoder, and start from a model with one encoder",
        )


def _from_origin(config: TrainConfig, tokenizer: Any, checkpoint: Path | None) -> Encoder:
    section = config.encoder
    settings = section.model_dump(
        include={"pooling", "similarity", "max_length", "query_prefix", "document_prefix"}, exclude_none=True
    )
    settings |= {} if section.similarity is None else {"normalize": section.similarity == "cosine"}
    architecture = section.architecture or {}
    load: Callable[..., Encoder] = Encoder.load
    if isinstance(config.contrast, LateInteraction):
        load = partial(TokenEncoder.load, dimension=config.contrast.dimension, seed=config.run.seed)
    if checkpoint is not None and not architecture.get("token_weights"):
        return load(checkpoint / MODEL, light=False)
    if section.name is not None:
        return load(section.name, light=False, **settings)
    # An exported bag of subwords has its token weights folded in, so it is built again and then filled.
    encoder = Encoder.from_random(architecture, tokenizer, seed=config.run.seed, **settings)
    if section.embeddings_from is not None and checkpoint is None:
        encoder.start_embeddings(Encoder.load(section.embeddings_from))
    return encoder


def _set_dropout(backbone: Any, rate: float) -> None:
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if hasattr(backbone.config, name):
            setattr(backbone.config, name, rate)
