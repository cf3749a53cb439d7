"""What a training configuration of any stage asks for: dev sets, where the run stands, tokenizer, encoder, model card.

train.py calls these in turn, before and between what the stage's own file makes (pretraining_parts.py, ...).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mcontriever.config import TrainConfig, dump_config
from mcontriever.encoder import Encoder
from mcontriever.encoder.bag_of_subwords import unfold_token_weights
from mcontriever.encoder.new_backbone import is_weighted_bag
from mcontriever.errors import ConfigError, ModelError
from mcontriever.evaluation.dev_sets import METRICS, DevSet
from mcontriever.tokens import SPECIALS_PER_ROW, load_tokenizer
from mcontriever.training.checkpoints import MODEL, read_state
from mcontriever.training.engine_settings import autocast_dtype
from mcontriever.training.model_card import model_card
from mcontriever.training.run_folder import flat
from mcontriever.training.run_state import RunState


def open_dev_sets(config: TrainConfig) -> list[DevSet]:
    sets = [DevSet.load(path, config.evaluation.split) for path in config.evaluation.sets]
    names = [dev_set.name for dev_set in sets]
    valid = [f"{name}/{metric}" for name in ["mean", *names] for metric in METRICS]
    if sets and config.evaluation.metric not in valid:
        raise ConfigError(f"evaluation.metric is {config.evaluation.metric!r}", fix=f"choose one of {', '.join(valid)}")
    if len(set(names)) < len(names) or "mean" in names:
        raise ConfigError(f"evaluation.sets have the names {', '.join(names)}", fix="give each folder its own name")
    return sets


def starting_state(config: TrainConfig, checkpoint: Path | None) -> RunState:
    if checkpoint is None:
        return RunState()
    values = read_state(checkpoint)
    for section, ours in model_facts(config).items():
        if _given(values.get(section)) != _given(ours):
            raise ModelError(
                f"the checkpoint is of another model: its {section} is {values.get(section)}, this run's is {ours}",
                where=checkpoint,
                fix="remove the folder if it was copied here, or set run.output to a new folder",
            )
    return RunState.from_json(values)


def _given(values: Any) -> Any:
    """Without the settings left open, of which a newer version may know more."""
    if not isinstance(values, dict):
        return values
    return {key: _given(value) for key, value in values.items() if value is not None}


def model_facts(config: TrainConfig) -> dict[str, Any]:
    return {"encoder": config.encoder.model_dump(mode="json"), "objective": config.objective.model_dump(mode="json")}


def open_tokenizer(config: TrainConfig, checkpoint: Path | None) -> Any:
    home = checkpoint / MODEL if checkpoint is not None else config.encoder.name or config.encoder.tokenizer
    return load_tokenizer(str(home))


def open_encoder(config: TrainConfig, tokenizer: Any, checkpoint: Path | None) -> Encoder:
    """The checkpoint's encoder, or the one to begin with."""
    section = config.encoder
    settings = section.model_dump(
        include={"pooling", "similarity", "max_length", "query_prefix", "document_prefix"}, exclude_none=True
    )
    settings |= {} if section.similarity is None else {"normalize": section.similarity == "cosine"}
    architecture = section.architecture or {}
    if checkpoint is not None and not architecture.get("token_weights"):
        encoder = Encoder.load(checkpoint / MODEL, light=False)
    elif section.name is not None:
        encoder = Encoder.load(section.name, light=False, **settings)
    else:  # an exported bag of subwords has its token weights folded in, so it is built anew and then filled
        encoder = Encoder.from_random(architecture, tokenizer, seed=config.run.seed, **settings)
        if section.embeddings_from is not None and checkpoint is None:
            encoder.start_embeddings(Encoder.load(section.embeddings_from))
    if section.name is not None and is_weighted_bag(vars(encoder.backbone.config)):
        encoder.token_weights = unfold_token_weights(encoder.backbone, scale_free=encoder.normalize)
    encoder.checkpoint_layers = section.checkpoint_layers
    encoder.precision = "auto" if autocast_dtype(config.deepspeed) else "float32"  # of dev scores
    if section.dropout is not None:
        set_dropout(encoder.backbone, section.dropout)
    room = encoder.backbone.config.max_position_embeddings - encoder.first_position - SPECIALS_PER_ROW
    longest = config.data.longest_text()
    if longest > room:
        raise ConfigError(
            f"data.window (or max_tokens) is {longest} tokens, the encoder takes {room} between its special tokens",
            fix=f"set data.window, and max_tokens of column_pairs, to {room} or less",
        )
    return encoder


def set_dropout(backbone: Any, rate: float) -> None:
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if hasattr(backbone.config, name):
            setattr(backbone.config, name, rate)


def describe(
    config: TrainConfig, folder: Path, languages: list[str], spec: Mapping[str, Any], state: Any
) -> tuple[str, dict[str, bytes]]:
    """The model card at this step, and the configuration to lie beside it."""
    text = dump_config(config)
    values = config.data.model_dump(mode="json", exclude={"languages"}, exclude_none=True, exclude_defaults=True)
    data = {"languages": languages, **flat(values)}
    card = model_card(
        name=folder.resolve().name,
        spec=spec,
        data=data,
        config_text=text,
        run=folder,
        step=state.step,
        samples=state.samples,
    )
    return card, {"training.yaml": text.encode()}
