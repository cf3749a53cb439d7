"""The BERT-family transformer over packed rows: no padding in linear layers, attention within each sequence.

It calls the Hugging Face modules one by one, so their hooks (ZeRO-3 fetches weights in them) and their gradients are
unchanged; only the code between them is ours.

Shapes: T tokens in all sequences, H hidden, A attention heads, D = H / A.
"""

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from mcontriever.encoder.cpu_dropout import dropout
from mcontriever.encoder.packed_attention import PackedAttention
from mcontriever.tokens import PackedBatch

# The architectures of this forward, of the fast CPU backbone and of the backbone without transformers.
PACKED_MODEL_TYPES = frozenset({"bert", "camembert", "roberta", "xlm-roberta"})


def can_pack(config: Any) -> bool:
    """Whether `packed_hidden_states` has this architecture; others use their own padded forward."""
    return config.model_type in PACKED_MODEL_TYPES and not getattr(config, "is_decoder", False)


def first_position(backbone: Any) -> int:
    """RoBERTa and its successors start after the position of their padding token; BERT starts at 0."""
    if not can_pack(backbone.config):
        return 0
    padding_position = backbone.embeddings.position_embeddings.padding_idx
    return 0 if padding_position is None else padding_position + 1


def packed_hidden_states(
    backbone: Any,
    batch: PackedBatch,
    *,
    word_vectors_TH: torch.Tensor | None = None,
    checkpoint_layers: bool = False,
) -> torch.Tensor:
    """hidden_TH of the last layer. `word_vectors_TH` replaces the lookup of word embeddings."""
    hidden_TH = _embed(backbone.embeddings, batch, word_vectors_TH)
    if not len(backbone.encoder.layer):
        return hidden_TH
    attention = PackedAttention(batch)
    for layer in backbone.encoder.layer:
        if checkpoint_layers and layer.training and torch.is_grad_enabled():
            hidden_TH = checkpoint(_layer, layer, hidden_TH, attention, use_reentrant=False)
        else:
            hidden_TH = _layer(layer, hidden_TH, attention)
    return hidden_TH


def _embed(embeddings: Any, batch: PackedBatch, word_vectors_TH: torch.Tensor | None) -> torch.Tensor:
    if word_vectors_TH is None:
        word_vectors_TH = embeddings.word_embeddings(batch.token_ids_T)
    segment_1 = torch.zeros(1, dtype=torch.long, device=batch.token_ids_T.device)
    summed_TH = word_vectors_TH + embeddings.token_type_embeddings(segment_1)
    summed_TH = summed_TH + embeddings.position_embeddings(batch.position_ids_T)
    return dropout(embeddings.LayerNorm(summed_TH), embeddings.dropout.p, embeddings.training)


def _layer(layer: Any, hidden_TH: torch.Tensor, attention: PackedAttention) -> torch.Tensor:
    own = layer.attention.self
    heads = (-1, own.num_attention_heads, own.attention_head_size)
    low_TH = _to_compute_dtype(hidden_TH)
    query_TAD = own.query(low_TH).view(heads)
    key_TAD = own.key(low_TH).view(heads)
    value_TAD = own.value(low_TH).view(heads)
    context_TAD = attention(query_TAD, key_TAD, value_TAD, own.dropout.p if own.training else 0.0)
    attended_TH = _add_and_norm(layer.attention.output, context_TAD.flatten(1), hidden_TH)
    return _add_and_norm(layer.output, layer.intermediate(attended_TH), attended_TH)


def _add_and_norm(output: Any, inner: torch.Tensor, residual_TH: torch.Tensor) -> torch.Tensor:
    projected_TH = dropout(output.dense(inner), output.dropout.p, output.training)
    return output.LayerNorm(residual_TH + projected_TH)


def _to_compute_dtype(hidden_TH: torch.Tensor) -> torch.Tensor:
    """One cast for query, key and value, where autocast alone would make three."""
    device = hidden_TH.device.type
    return hidden_TH.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden_TH
