"""A BERT-family backbone and a tokenizer for inference without transformers, which takes two seconds to import.

Their modules and names are Hugging Face's, so the packed forward, the fast CPU path and the fingerprint treat them as
the same. `mcontriever search` answers its first question with them. Whatever this file does not know for certain is
loaded with transformers instead.
"""

from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList
from torch.nn.functional import gelu

from mcontriever.disk import read_json, write_json
from mcontriever.encoder.few_bits import unpack_all
from mcontriever.encoder.fingerprint import DECISIVE_KEYS
from mcontriever.encoder.packed_forward import PACKED_MODEL_TYPES
from mcontriever.encoder.saved_model import PLAIN_TOKENIZER
from mcontriever.errors import UserError
from mcontriever.model_files import reading_model

WEIGHTS = "model.safetensors"
_TOKENIZER_SETTINGS, _TOKENIZER_RULES = "tokenizer_config.json", "tokenizer.json"
_EPSILON = "layer_norm_eps"
_NO_COUNTS = ("model_type", "hidden_act", _EPSILON)
_OF_LAYERS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def load_light_backbone(folder: Path, *, bags_only: bool = False) -> Module | None:
    """The folder's backbone, or None if its architecture or one of its weights is unknown here."""
    if not (folder / WEIGHTS).is_file():
        return None
    config = _read_config(folder)
    if config is None or config.hidden_act != "gelu" or config.is_decoder:
        return None
    if bags_only and config.num_hidden_layers > 0:
        return None
    with reading_model("the folder has no readable backbone", folder):
        weights = {name: value.float() for name, value in unpack_all(load_file(folder / WEIGHTS)).items()}
        if config.num_hidden_layers > len(weights):
            return None
        with torch.device("meta"):
            backbone = LightBackbone(config)
    expected = {name: value.shape for name, value in backbone.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        return None
    backbone.load_state_dict(weights, assign=True)
    return backbone.eval().requires_grad_(bags_only)


def load_light_tokenizer(folder: Path) -> "LightTokenizer | None":
    """None where transformers adds rules that the file does not hold."""
    if not (folder / _TOKENIZER_RULES).is_file() or not (folder / _TOKENIZER_SETTINGS).is_file():
        return None
    with reading_model("cannot read the tokenizer", folder):
        if read_json(folder / _TOKENIZER_SETTINGS).get("tokenizer_class") != PLAIN_TOKENIZER:
            return None
        return LightTokenizer(folder)


def _read_config(folder: Path) -> Any:
    """config.json, or None if it is not the BERT family's or lacks a key that the forward reads."""
    try:
        values = read_json(folder / "config.json")
    except (UserError, OSError):
        return None  # transformers says what is wrong
    if not isinstance(values, dict) or values.get("auto_map"):
        return None
    if not isinstance(values.get("model_type"), str) or values["model_type"] not in PACKED_MODEL_TYPES:
        return None
    if any(values.get(key) is None for key in (*DECISIVE_KEYS, *_OF_LAYERS)):
        return None
    if any(type(values[key]) is not int for key in DECISIVE_KEYS if key not in _NO_COUNTS):
        return None
    if any(type(values[key]) not in (int, float) for key in (_EPSILON, *_OF_LAYERS)):
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
    """With its weight given, because random initialization on "meta" imports torch's compiler."""
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


class LightTokenizer:
    """tokenizer.json read by the `tokenizers` library alone. Anything else asked of it loads the full tokenizer."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.name_or_path = str(folder)
        self.backend_tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER_RULES))
        settings = read_json(folder / _TOKENIZER_SETTINGS)
        for kind in ("pad", "mask", "unk"):
            token = settings.get(f"{kind}_token")
            setattr(self, f"{kind}_token_id", None if token is None else self.backend_tokenizer.token_to_id(token))

    def __call__(self, text: Any, **settings: Any) -> Any:
        if isinstance(text, str) and settings == {"add_special_tokens": True}:
            return {"input_ids": self.backend_tokenizer.encode(text).ids}
        return self._full(text, **settings)

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._full, name)

    @cached_property
    def _full(self) -> Any:
        from mcontriever.tokens import load_tokenizer

        return load_tokenizer(self.name_or_path)
