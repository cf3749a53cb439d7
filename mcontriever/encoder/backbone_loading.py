"""Strict loading of a Hugging Face backbone: file and architecture must have the same weights."""

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mcontriever.amounts import shown_size
from mcontriever.encoder.few_bits import is_packed, unpack_all
from mcontriever.errors import ModelError
from mcontriever.model_files import reading_model

# Heads that an embedding model does not use. Any other unknown weight is an error.
_KNOWN_HEADS = (
    "pooler.",
    "lm_head.",
    "cls.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "discriminator_predictions.",
    "generator_predictions.",
    "generator_lm_head.",
    "head.",
    "decoder.",
    "classifier.",
)
_KNOWN_BUFFERS = ("embeddings.position_ids",)
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
NUMBERS_PER_BYTE = 4
MOST_LAYERS = 1000


def load_backbone(folder: str | Path) -> Any:
    """The Hugging Face model of a folder, in float32."""
    with reading_model("the folder has no readable backbone", folder):
        backbone, report = _from_pretrained(Path(folder))
    prefix = f"{backbone.base_model_prefix}."
    unexpected = [name for name in sorted(report["unexpected_keys"]) if not _is_known(name.removeprefix(prefix))]
    problems = {
        "missing from the file": sorted(report["missing_keys"]),
        "unknown to the architecture": unexpected,
        "of a different shape": sorted(str(key[0]) for key in report["mismatched_keys"]),
    }
    for what, names in problems.items():
        if names:
            raise ModelError(
                f"{len(names)} weights {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}",
                where=folder,
                fix=f"config.json says {backbone.config.model_type!r}: check that it belongs to these weights",
            )
    return backbone


def _from_pretrained(folder: Path) -> tuple[Any, dict[str, Any]]:
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _check_sizes(config, folder)
    extra = {"add_pooling_layer": False} if _has_pooler(config) else {}
    packed = _packed_weights(folder / "model.safetensors")
    with quiet_transformers():
        loader = MODEL_MAPPING[type(config)] if packed else AutoModel
        return loader.from_pretrained(
            None if packed else folder,
            state_dict=packed,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so the report lists them with the others
            **extra,
        )


def _check_sizes(config: Any, folder: Path) -> None:
    """No model is made that is far larger than its file, whatever config.json says. A number takes two bits or more."""
    from transformers import MODEL_MAPPING

    layers = getattr(config, "num_hidden_layers", 0)
    if not 0 <= layers <= MOST_LAYERS:
        raise ValueError(f"config.json says num_hidden_layers: {layers}")
    with torch.device("meta"), quiet_transformers():
        numbers = sum(one.numel() for one in MODEL_MAPPING[type(config)](config).parameters())
    stored = sum(file.stat().st_size for kind in WEIGHT_FILES for file in folder.glob(kind))
    if numbers > NUMBERS_PER_BYTE * stored:
        raise ValueError(f"config.json asks for {numbers:,} numbers, and the weights are {shown_size(stored)}")


def _packed_weights(file: Path) -> dict[str, torch.Tensor] | None:
    """The weights of a file with packed tables, which transformers cannot read; None for other files."""
    if not file.is_file():
        return None
    with safe_open(file, "pt") as opened:
        if not is_packed(opened.keys()):
            return None
    return unpack_all(load_file(file))


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, and no report of weights, because `load_backbone` makes its own."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def _has_pooler(config: Any) -> bool:
    from transformers import MODEL_MAPPING

    return "add_pooling_layer" in inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters


def _is_known(name: str) -> bool:
    return name.startswith(_KNOWN_HEADS) or name in _KNOWN_BUFFERS
