"""What one update of a configuration consists of: architecture, rows and their length, from arithmetic alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcontriever.assembly.training_config import FinetuneConfig, TrainConfig
from mcontriever.disk import read_json
from mcontriever.errors import ConfigError
from mcontriever.hub import is_at_hand, model_folder
from mcontriever.pretraining.moco import QueueSettings
from mcontriever.tokens import SPECIALS_PER_ROW, load_tokenizer
from mcontriever.training.engine_settings import autocast_dtype
from mcontriever.training.memory_estimate import KNOWN, Architecture, Work


def estimated_work(config: TrainConfig, settings: Mapping[str, Any], architecture: Architecture) -> Work:
    """`settings` are DeepSpeed's, complete."""
    rows, micro_steps = settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]
    contrast = config.contrast
    with_gradient, without_gradient, row_length = _rows_of_a_sample(config)
    return Work(
        architecture=architecture,
        rows_with_gradient=rows * with_gradient,
        rows_without_gradient=rows * without_gradient,
        row_length=row_length,
        micro_steps=micro_steps,
        steps=config.run.steps,
        world_size=settings["train_batch_size"] // (rows * micro_steps),
        queue_size=contrast.queue_size if isinstance(contrast, QueueSettings) else 0,
        momentum=isinstance(contrast, QueueSettings),
        precision=autocast_dtype(settings) or "float32",
        checkpoint_layers=config.encoder.checkpoint_layers,
        rows_at_once=None if isinstance(config.objective, QueueSettings) else config.objective.rows_per_sub_batch,
        asam=config.run.asam is not None,
        frozen_parameters=_frozen_parameters(config, architecture),
    )


def architecture_of(config: TrainConfig, *, fetch: bool = False) -> Architecture:
    """From the configuration, a model's folder, or the table of known names; the hub is asked only with `fetch`."""
    one = _one_encoder(config, fetch=fetch)
    return replace(one, encoders=2) if config.encoder.own_query_encoder else one


def _one_encoder(config: TrainConfig, *, fetch: bool) -> Architecture:
    section = config.encoder
    if section.architecture is not None:
        vocabulary = section.architecture.get("vocab_size") or len(load_tokenizer(str(section.tokenizer)))
        return Architecture.of({**section.architecture, "vocab_size": vocabulary, "type_vocab_size": 1})
    assert section.name is not None
    known = KNOWN.get(section.name.rsplit("/", 1)[-1])
    if is_at_hand(section.name) or (fetch and known is None):
        return Architecture.of(read_json(model_folder(section.name) / "config.json"))
    if known is None:
        raise ConfigError(
            f"the size of {section.name} is not known here",
            fix=f"give a model's folder, or one of {', '.join(KNOWN)}",
        )
    return known


def _frozen_parameters(config: TrainConfig, size: Architecture) -> int:
    section = config.encoder
    if section.frozen_layers:
        return size.embedding_parameters + size.layer_parameters * section.frozen_layers // max(size.layers, 1)
    return size.encoders * size.vocabulary * size.hidden if section.frozen_embeddings else 0


def _rows_of_a_sample(config: TrainConfig) -> tuple[int, int, float]:
    """Rows with gradient and without, and their mean length: of full windows, or of examples as long as they may be."""
    if isinstance(config, FinetuneConfig):
        passages = 1 + config.data.negatives
        tokens = config.data.query_length + passages * config.data.passage_length
        return 1 + passages, 0, tokens / (1 + passages)
    texts, view = config.data.texts, config.data.view
    if texts is not None and config.contrast is None:
        return 1, 0, texts.max_tokens + SPECIALS_PER_ROW
    share = (view.min_ratio + view.max_ratio) / 2 if view.kind == "crops" else 0.5
    length = config.data.window * share * (1 - config.data.augmentation.delete) + SPECIALS_PER_ROW
    taught = 0
    if texts is not None:
        taught, length = 1, max(length, texts.max_tokens + SPECIALS_PER_ROW)  # of all rows: an estimate from above
    if not isinstance(config.contrast, QueueSettings):  # keys have gradients too
        return 2 + taught, 0, length
    return 1 + taught, view.keys_per_query if view.kind == "crops" else 1, length
