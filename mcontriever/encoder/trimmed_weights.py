"""A backbone with fewer pieces or fewer layers: the kept weights, bit for bit, and a configuration that says so."""

from collections.abc import Sequence
from typing import Any

import torch

from mcontriever.encoder.packed_forward import can_pack
from mcontriever.errors import ConfigError, ModelError

_TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


def keep_pieces(backbone: Any, kept: Sequence[int]) -> None:
    """In place. Row i of the new table is the vector of piece kept[i]."""
    new_ids = {old: new for new, old in enumerate(kept)}
    table = backbone.get_input_embeddings()
    padding = None if table.padding_idx is None else new_ids[table.padding_idx]
    rows = table.weight.detach()[torch.as_tensor(list(kept), device=table.weight.device)].clone()
    smaller = torch.nn.Embedding.from_pretrained(rows, freeze=not table.weight.requires_grad, padding_idx=padding)
    backbone.set_input_embeddings(smaller)
    config = backbone.config
    config.vocab_size = len(kept)
    for name in _TOKEN_IDS:
        old = getattr(config, name, None)
        if old is not None:
            setattr(config, name, new_ids.get(old))


def keep_layers(backbone: Any, layers: Sequence[int], *, where: object = None) -> None:
    """In place: these layers, in this order."""
    if not can_pack(backbone.config):
        raise ModelError(
            f"layers can be chosen only for BERT and RoBERTa models; this model is {backbone.config.model_type}",
            where=where,
            fix="omit --layers",
        )
    there = len(backbone.encoder.layer)
    missing = [layer for layer in layers if not 0 <= layer < there]
    if missing or not layers:
        named = f"layer {', '.join(map(str, missing))}" if missing else "no layer"
        raise ConfigError(
            f"--layers names {named}; the model has layers 0 to {there - 1}" if there else "the model has no layers",
            where=where,
            fix=f"choose among 0 to {there - 1}, for example --layers 0-{there - 1}" if there else "omit it",
        )
    backbone.encoder.layer = torch.nn.ModuleList(backbone.encoder.layer[layer] for layer in layers)
    backbone.config.num_hidden_layers = len(layers)
