"""Weights that training leaves as they are: the subword vectors, or the lowest layers and all below them.

The table of subwords is most of a multilingual encoder. Without its gradient and its optimizer state a step on short
texts, which touches few of its rows, is a good deal faster, and a checkpoint a good deal smaller.
"""

from typing import Any

import torch

from mcontriever.errors import ConfigError


def freeze(backbone: Any, *, embeddings: bool, layers: int) -> None:
    """In place. `layers` counts from the lowest; with any, all kinds of embeddings stay as well."""
    there = backbone.config.num_hidden_layers
    if layers and layers >= there:
        raise ConfigError(
            f"encoder.frozen_layers is {layers}, the encoder has {there}: nothing would be left to train",
            fix=f"set it below {there}",
        )
    if embeddings:
        backbone.get_input_embeddings().requires_grad_(False)
    if layers:
        getattr(backbone, "embeddings", backbone.get_input_embeddings()).requires_grad_(False)
        for layer in _layers(backbone, there)[:layers]:
            layer.requires_grad_(False)


def _layers(backbone: Any, count: int) -> torch.nn.ModuleList:
    """Each architecture has its own name for them."""
    lists = (module for module in backbone.modules() if isinstance(module, torch.nn.ModuleList))
    return next(module for module in lists if len(module) == count)
