"""New backbones: random weights from a configuration, for tests and for languages that no checkpoint covers.

With `num_hidden_layers: 0` the model is a bag of subwords. Two keys beside Hugging Face's own change it:

    position_embeddings: false     no positions: their table is zero and stays zero
    token_weights: true            each token's vector has a learned weight, like an IDF (needs 0 layers)

Both still load everywhere as a plain BERT-family model. A weighted bag needs a layer norm that changes nothing, and
BERT always has one. So its epsilon is so large that it divides by a constant, and its gain multiplies by the same
constant. Only the subtraction of each vector's mean remains. Saving folds the learned weights into the vectors.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mcontriever.errors import ModelError
from mcontriever.progress import log
from mcontriever.tokens import SpecialTokens

IDENTITY_NORM_EPS = 1e12  # float32 holds 1e12 + variance as 1e12, so the norm divides by exactly 1e6
# Keys of our own in config.json.
FROZEN_KEY = "frozen_weights"  # the weights that training must not change
BAG_KEY = "weighted_bag"  # made with token_weights, even if they are folded into the vectors by now
_POSITIONS = "embeddings.position_embeddings.weight"
_SEGMENTS = "embeddings.token_type_embeddings.weight"
_NORM_GAIN, _NORM_SHIFT = "embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"


def random_backbone(
    architecture: Mapping[str, Any], tokenizer: Any, max_length: int, seed: int
) -> tuple[Any, torch.nn.Embedding | None]:
    """The backbone and, for a weighted bag, its token weights [vocabulary, 1]."""
    from transformers import AutoConfig, AutoModel

    if max_length < 1:
        raise ModelError(f"max_length is {max_length}, a text has 1 token or more", fix="set max_length to 512, say")
    values = {**_defaults(tokenizer, max_length), **architecture}
    weighted = values.pop("token_weights", False)
    positions = values.pop("position_embeddings", not weighted)
    if weighted:
        _check_bag(values)
        values |= {"layer_norm_eps": IDENTITY_NORM_EPS, BAG_KEY: True}
    try:
        config = AutoConfig.for_model(values.pop("model_type"), **values)
    except (ValueError, TypeError) as error:
        raise ModelError(f"unknown architecture: {error}", fix="use the keys of the model's config.json") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            backbone = AutoModel.from_config(config, dtype=torch.float32)
        except ValueError as error:
            raise ModelError(f"the model cannot be built: {error}", fix="change encoder.architecture") from error
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    constants = {} if positions else {_POSITIONS: 0.0}
    if weighted:
        constants |= {_SEGMENTS: 0.0, _NORM_GAIN: IDENTITY_NORM_EPS**0.5, _NORM_SHIFT: 0.0}
    _fix(backbone, constants)
    return backbone, _unit_weights(len(tokenizer)) if weighted else None


def _defaults(tokenizer: Any, max_length: int) -> dict[str, Any]:
    special = SpecialTokens.of(tokenizer)
    return {
        "model_type": "xlm-roberta",
        "vocab_size": len(tokenizer),
        "pad_token_id": special.pad_id,
        "bos_token_id": special.begin_id,
        "eos_token_id": special.end_id,
        "max_position_embeddings": max_length + special.pad_id + 1,
        "type_vocab_size": 1,
    }


def _check_bag(values: Mapping[str, Any]) -> None:
    if values.get("num_hidden_layers") != 0 or values.get("position_embeddings"):
        raise ModelError(
            f"token_weights with num_hidden_layers {values.get('num_hidden_layers')} and position_embeddings "
            f"{values.get('position_embeddings', False)}: only a bag of subwords has token weights",
            fix="set num_hidden_layers: 0 and omit position_embeddings",
        )


def _fix(backbone: Any, constants: Mapping[str, float]) -> None:
    """Set and freeze these weights. config.json lists them, so a loaded copy freezes them too."""
    parameters = dict(backbone.named_parameters())
    unknown = sorted(set(constants) - set(parameters))
    if unknown:
        raise ModelError(
            f"a {backbone.config.model_type} model has no {', '.join(unknown)}",
            fix="omit token_weights and position_embeddings, or use model_type: xlm-roberta",
        )
    for name, value in constants.items():
        torch.nn.init.constant_(parameters[name], value)
    if constants:
        setattr(backbone.config, FROZEN_KEY, sorted(constants))
    freeze_as_noted(backbone)


def freeze_as_noted(backbone: Any, where: object = None) -> None:
    names, parameters = getattr(backbone.config, FROZEN_KEY, ()), dict(backbone.named_parameters())
    is_list = isinstance(names, list | tuple)
    if not is_list or not all(isinstance(name, str) and name in parameters for name in names):
        what = f"config.json says {FROZEN_KEY}: {names!r}, which are not weights of this model"
        raise ModelError(what, where=where, fix="export or download the model again")
    for name in names:
        parameters[name].requires_grad_(False)


def is_weighted_bag(config: Mapping[str, Any]) -> bool:
    """Whether config.json describes a weighted bag; folders of version 0.1 have no key that says so."""
    old_mark = config.get("layer_norm_eps") == IDENTITY_NORM_EPS
    return config.get("num_hidden_layers") == 0 and bool(config.get(BAG_KEY, old_mark))


def _unit_weights(count: int) -> torch.nn.Embedding:
    weights = torch.nn.Embedding(count, 1)
    torch.nn.init.ones_(weights.weight)
    return weights


@torch.no_grad()
def copy_embeddings(
    vectors_VH: torch.Tensor, tokenizer: Any, other_vectors_UW: torch.Tensor, other_tokenizer: Any
) -> int:
    """Start from another checkpoint's vectors of the same pieces, or from their principal components if it is wider.

    Pieces that only the new tokenizer has keep their random vectors. Returns how many were copied.
    """
    width, other_width = vectors_VH.shape[1], other_vectors_UW.shape[1]
    if other_width < width:
        raise ModelError(
            f"the other checkpoint's embeddings are {other_width} wide, these {width}",
            fix=f"set hidden_size to {other_width} or less",
        )
    known = other_tokenizer.get_vocab()
    pairs = [(own_id, known[piece]) for piece, own_id in tokenizer.get_vocab().items() if piece in known]
    if not pairs:
        raise ModelError("the two tokenizers share no piece", fix="use a checkpoint with a tokenizer of the same kind")
    own_ids, other_ids = (torch.tensor(ids) for ids in zip(*pairs, strict=True))
    chosen = other_vectors_UW.detach().float().cpu()[other_ids]
    if other_width > width:
        chosen = chosen @ _principal_axes(chosen, width)
    vectors_VH[own_ids.to(vectors_VH.device)] = chosen.to(vectors_VH)
    log.info(f"embeddings of {len(pairs):,} of {len(tokenizer):,} pieces start from the other checkpoint's")
    return len(pairs)


def _principal_axes(vectors_UW: torch.Tensor, count: int) -> torch.Tensor:
    """The directions [W, count] of largest second moment: they preserve dot products best."""
    moment_WW = (vectors_UW.T.double() @ vectors_UW.double()).numpy()
    _, axes_WW = np.linalg.eigh(moment_WW)
    return torch.from_numpy(axes_WW[:, ::-1][:, :count].copy()).float()
