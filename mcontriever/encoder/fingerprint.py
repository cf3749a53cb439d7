"""One sha256 over everything that determines an embedding: weights, architecture, tokenizer and settings."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from mcontriever.encoder.packed_forward import PACKED_MODEL_TYPES
from mcontriever.tokens import tokenizer_fingerprint

BYTES_PER_CHUNK = 1 << 26
DECISIVE_KEYS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "pad_token_id",
)
# Keys about saving and training; none of them changes an embedding.
_NEUTRAL_KEYS = (
    "_name_or_path",
    "architectures",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dtype",
    "frozen_weights",
    "hidden_dropout_prob",
    "initializer_range",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)


def weights_fingerprint(backbone: Any, tokenizer: Any, spec: Mapping[str, Any]) -> str:
    """Chunks are hashed in parallel: under a second for 278 M weights."""
    settings = json.dumps([_architecture(backbone.config), dict(spec)], sort_keys=True, default=str)
    total = hashlib.sha256(settings.encode())
    total.update(tokenizer_fingerprint(tokenizer).encode())
    weights = sorted(backbone.state_dict().items())
    with ThreadPoolExecutor() as threads:
        for (name, value), digests in zip(
            weights, threads.map(_chunk_digests, [value for _, value in weights]), strict=True
        ):
            total.update(f"{name}{tuple(value.shape)}".encode())
            total.update(digests)
    return total.hexdigest()


def _architecture(config: Any) -> dict[str, Any]:
    """The keys that the packed forward reads; of other architectures, all that may matter."""
    if config.model_type in PACKED_MODEL_TYPES:
        return {key: getattr(config, key) for key in DECISIVE_KEYS}
    return {key: value for key, value in config.to_dict().items() if key not in _NEUTRAL_KEYS}


def _chunk_digests(value: torch.Tensor) -> bytes:
    data = value.detach().cpu().float().contiguous().numpy().reshape(-1).view(np.uint8).data
    return b"".join(
        hashlib.sha256(data[start : start + BYTES_PER_CHUNK]).digest() for start in range(0, len(data), BYTES_PER_CHUNK)
    )
