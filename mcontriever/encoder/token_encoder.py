"""Late interaction: a text is one vector for each of its tokens, as in ColBERT, of length one and of few dimensions.

    encoder = TokenEncoder.load("runs/late/model")      # or any model with one vector a text, with a new projection

Its folder is one of sentence-transformers' MultiVectorEncoder: Transformer, Dense, MultiVectorMask, Normalize. Unlike
ColBERT queries are not filled up with masks, and marks and punctuation count. Shapes: T tokens, H hidden, D dimensions.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch.nn.functional import normalize

from mcontriever.disk import read_json
from mcontriever.encoder.backbone_loading import load_backbone
from mcontriever.encoder.encoder import Encoder
from mcontriever.encoder.model_checksums import check_weights
from mcontriever.encoder.packed_forward import can_pack
from mcontriever.encoder.saved_model import write_model_folder
from mcontriever.errors import ModelError
from mcontriever.hub import model_folder
from mcontriever.tokens import PackedBatch, load_tokenizer

DIMENSION = 128  # of a token's vector, as in ColBERT
KIND = "MultiVectorEncoder"
_PROJECTION, _MASK = "1_Dense", "2_MultiVectorMask"
_ON_TOKENS = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
_LAYERS = {
    "": "sentence_transformers.base.modules.transformer.Transformer",
    _PROJECTION: "sentence_transformers.base.modules.dense.Dense",
    _MASK: "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
    "3_Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


class TokenEncoder(Encoder):
    def __init__(self, encoder: Encoder, projection: torch.nn.Linear) -> None:
        settings = {**encoder.spec(), "pooling": "cls", "normalize": False, "similarity": "dot"}  # unused here
        super().__init__(encoder.backbone, encoder.tokenizer, token_weights=encoder.token_weights, **settings)
        self.projection = projection
        self.train(encoder.training)

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        light: bool | None = None,
        dimension: int = DIMENSION,
        seed: int = 0,
        **changes: Any,
    ) -> "TokenEncoder":
        """`dimension` and `seed` are of the new projection for a model that has one vector a text."""
        folder = model_folder(name_or_folder)
        if is_late_interaction(folder):
            check_weights(folder)
            return _read(folder).to(device).eval()
        encoder = Encoder.load(name_or_folder, device=device, light=False, **changes)
        return cls(encoder, _new_projection(encoder.dimension, dimension, seed)).to(device).eval()

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """vectors_TD of all tokens, in the batch's order; float32, with gradient."""
        if not can_pack(self.backbone.config):
            return self.forward_padded(batch)
        with self._autocast():
            return self.pool(self._hidden_states(batch), batch)

    def pool(self, hidden_TH: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        with torch.autocast(hidden_TH.device.type, enabled=False):
            return normalize(self.projection(hidden_TH.float()), dim=-1)

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        raise _many_vectors()

    def embed_documents(self, texts: Sequence[str], titles: Sequence[str] | None = None) -> np.ndarray:
        raise _many_vectors()

    def spec(self) -> dict[str, Any]:
        return {**super().spec(), "pooling": "none", "normalize": True, "similarity": "maxsim"}

    def _write(self, folder: Path, card: str | None, attachments: Mapping[str, bytes]) -> None:
        weights = {"linear.weight": self.projection.weight.detach().cpu().contiguous()}
        write_model_folder(
            folder,
            self.folded_backbone(),
            self.tokenizer,
            self.spec(),
            card,
            {**attachments, f"{_PROJECTION}/model.safetensors": save(weights)},
            files=_files(self),
        )


def is_late_interaction(folder: Path) -> bool:
    file = folder / "config_sentence_transformers.json"
    return file.is_file() and read_json(file).get("model_type") == KIND


def _read(folder: Path) -> TokenEncoder:
    layers = {module["path"]: module["type"] for module in read_json(folder / "modules.json")}
    if layers != _LAYERS or read_json(folder / _MASK / "config.json").get("skiplist_words"):
        what = f"the late-interaction model consists of {', '.join(layers.values())}, or skips words"
        raise ModelError(what, where=folder, fix="give one that was trained here, with the objective late_interaction")
    prompts = read_json(folder / "config_sentence_transformers.json")["prompts"]
    encoder = Encoder(
        load_backbone(folder),
        load_tokenizer(folder),
        max_length=read_json(folder / "sentence_bert_config.json")["max_seq_length"],
        query_prefix=prompts["query"],
        document_prefix=prompts["document"],
    )
    weight_DH = load_file(folder / _PROJECTION / "model.safetensors")["linear.weight"]
    projection = torch.nn.Linear(weight_DH.shape[1], weight_DH.shape[0], bias=False)
    with torch.no_grad():
        projection.weight.copy_(weight_DH)
    return TokenEncoder(encoder, projection)


def _new_projection(hidden: int, dimension: int, seed: int) -> torch.nn.Linear:
    projection = torch.nn.Linear(hidden, dimension, bias=False)
    torch.nn.init.orthogonal_(projection.weight, generator=torch.Generator().manual_seed(seed))
    return projection


def _files(encoder: TokenEncoder) -> dict[str, Any]:
    modules = [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (path, kind) in enumerate(_LAYERS.items())]
    dimension, hidden = encoder.projection.weight.shape
    identity = "torch.nn.modules.linear.Identity"
    return {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": encoder.max_length, "do_lower_case": False},
        f"{_PROJECTION}/config.json": {
            "in_features": hidden,
            "out_features": dimension,
            "bias": False,
            "activation_function": identity,
            **_ON_TOKENS,
        },
        f"{_MASK}/config.json": {"skiplist_words": [], "skiplist_tasks": ["document"], "keep_only_token_ids": None},
        "3_Normalize/config.json": _ON_TOKENS,
        "config_sentence_transformers.json": {
            "model_type": KIND,
            "prompts": {"query": encoder.query_prefix, "document": encoder.document_prefix},
            "default_prompt_name": None,
            "similarity_fn_name": "maxsim",
        },
    }


def _many_vectors() -> ModelError:
    return ModelError(
        "a late-interaction model has a vector for each token, not one for a text",
        fix="score it with mcontriever benchmark, or name it as objective.in_batch_teacher of a distillation",
    )
