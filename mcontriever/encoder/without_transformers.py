"""A BERT-family backbone for inference without transformers' modelling code, which takes two seconds to import.

It has the modules and the names that Hugging Face's has, so the packed forward, the fast CPU path and the fingerprint
take it for the same. `mcontriever search` answers its first question with it; whatever it does not know for certain is
loaded in the ordinary way.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList
from torch.nn.functional import gelu

from mcontriever.disk import read_json, write_json
from mcontriever.encoder.few_bits import unpack_all
from mcontriever.encoder.fingerprint import BERT_FAMILY, DECISIVE_KEYS
from mcontriever.errors import UserError

WEIGHTS = "model.safetensors"
_OF_LAYERS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def load_light_backbone(folder: Path, *, bags_only: bool = False) -> Module | None:
    """The folder's backbone, or None if it is not one of those that this file knows, in every weight."""
    if not (folder / WEIGHTS).is_file():
        return None
    config = _read_config(folder)
    if config is None or config.hidden_act != "gelu" or config.is_decoder:
        return None
    if bags_only and config.num_hidden_layers > 0:
        return None
    with torch.device("meta"):
        backbone = LightBackbone(config)
    weights = {name: value.float() for name, value in unpack_all(load_file(folder / WEIGHTS)).items()}
    expected = {name: value.shape for name, value in backbone.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        return None
    backbone.load_state_dict(weights, assign=True)
    return backbone.eval().requires_grad_(bags_only)


def _read_config(folder: Path) -> Any:
    """config.json as it stands, or None if it is not one of the BERT family's with all that the forward reads."""
    try:
        values = read_json(folder / "config.json")
    except (UserError, OSError):
        return None  # the ordinary way says what is wrong
    if not isinstance(values, dict) or values.get("model_type") not in BERT_FAMILY or values.get("auto_map"):
        return None
    if any(values.get(key) is None for key in (*DECISIVE_KEYS, *_OF_LAYERS)):
        return None
    return SimpleNamespace(**{"is_decoder": False, **values})


class LightBackbone(Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = Module()
        self.encoder.layer = ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))

    def get_input_embeddings(self) -> Embedding:
        return self.embeddings.word_embeddings

    def save_pretrained(self, folder: Path) -> None:
        """The files that transformers writes."""
        write_json(folder / "config.json", vars(self.config))
        save_file(self.state_dict(), folder / WEIGHTS, metadata={"format": "pt"})


class _Embeddings(Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        reserves_padding = config.model_type != "bert"
        self.word_embeddings = _table(config.vocab_size, config.hidden_size)
        self.position_embeddings = _table(config.max_position_embeddings, config.hidden_size)
        self.position_embeddings.padding_idx = config.pad_token_id if reserves_padding else None
        self.token_type_embeddings = _table(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)


def _table(rows: int, width: int) -> Embedding:
    """Given its weight, so that torch does not fill it at random: on "meta" that imports its compiler."""
    return Embedding(rows, width, _weight=torch.empty(rows, width))


class _Layer(Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.attention = Module()
        self.attention.self = _Attention(config)
        self.attention.output = _Output(config, config.hidden_size)
        self.intermediate = _Intermediate(config)
        self.output = _Output(config, config.intermediate_size)


class _Attention(Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.all_head_size = self.num_attention_heads * self.attention_head_size
        self.query = Linear(config.hidden_size, self.all_head_size)
        self.key = Linear(config.hidden_size, self.all_head_size)
        self.value = Linear(config.hidden_size, self.all_head_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)


class _Intermediate(Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return gelu(self.dense(hidden))


class _Output(Module):
    def __init__(self, config: Any, inputs: int) -> None:
        super().__init__()
        self.dense = Linear(inputs, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
