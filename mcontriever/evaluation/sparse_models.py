"""SPARTA (Zhao et al. 2021) and SPLADE (Formal et al. 2021) as sentence-transformers' SparseEncoder.

    weight of a vocabulary's piece v in a text = log(1 + relu(max over its tokens of h_token . e_v))

SPARTA takes a plain backbone: e_v is its own vector of the piece, and zero for special ones. A query is the set of its
pieces, so its score with a document is the sum of their weights. The length of 500 and the 2,000 pieces kept are those
of BEIR's evaluation. SPLADE takes a masked language model, whose head makes the product, for queries and documents
alike; BEIR evaluates it with 256 tokens.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from mcontriever.disk import read_json
from mcontriever.encoder.few_bits import is_packed
from mcontriever.encoder.saved_model import architectures_of
from mcontriever.errors import ModelError

PIECES_KEPT, MAX_LENGTH = 2000, 500
SPLADE_LENGTH = 256


def sparta_encoder(folder: Path, device: str) -> Any:
    """A SparseEncoder that routes queries and documents."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Dense, Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    _require_plain_weights(folder)
    transformer = Transformer(str(folder))
    tokenizer, words = transformer.tokenizer, transformer.model.get_input_embeddings().weight.detach()
    transformer.max_seq_length = min(MAX_LENGTH, transformer.max_seq_length or MAX_LENGTH)
    pieces_VH = words[: len(tokenizer)].clone()
    pieces_VH[tokenizer.all_special_ids] = 0
    scores = Dense(
        pieces_VH.shape[1],
        pieces_VH.shape[0],
        bias=False,
        activation_function=torch.nn.Identity(),
        init_weight=pieces_VH,
        module_input_name="token_embeddings",
    )
    documents = [transformer, scores, SpladePooling("max", embedding_dimension=len(tokenizer))]
    router = Router.for_query_document([SparseStaticEmbedding(tokenizer, frozen=True)], documents)
    return SparseEncoder(modules=[router], device=device, max_active_dims=PIECES_KEPT).eval()


def splade_encoder(folder: Path, device: str) -> Any:
    """A folder that says how it is read, or a masked language model alone."""
    from sentence_transformers import SparseEncoder

    if not _has_trained_head(folder):
        raise ModelError(
            "the model has no head trained to predict pieces; its scores would be random",
            where=folder,
            fix="give a masked language model (XForMaskedLM) or a SparseEncoder; sparta: reads plain backbones",
        )
    _require_plain_weights(folder)
    model = SparseEncoder(str(folder), device=device).eval()
    model.max_seq_length = min(SPLADE_LENGTH, model.max_seq_length or SPLADE_LENGTH)
    return model


def _has_trained_head(folder: Path) -> bool:
    """What sentence-transformers saved as a sparse encoder, or a masked language model; another gets a random head."""
    saved_by = folder / "config_sentence_transformers.json"
    if saved_by.is_file() and read_json(saved_by).get("model_type") == "SparseEncoder":
        return True
    return any(name.endswith("ForMaskedLM") for name in architectures_of(folder))


def _require_plain_weights(folder: Path) -> None:
    """transformers would replace weights that it cannot read by random ones."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as weights:
            if is_packed(weights.keys()):
                what = "the weights are stored in a few bits per number, which sentence-transformers does not read"
                fix = f"write them in float32 first: mcontriever export {folder.name} --output FOLDER"
                raise ModelError(what, where=folder, fix=fix)
