"""Our encoder behind MTEB's interface: packed and fast, with the similarity, prefixes and lengths it was saved with."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction
from mteb.types import PromptType

from mcontriever.encoder import Encoder
from mcontriever.encoder.two_encoders import parts_of


class MtebEncoder:
    """MTEB's EncoderProtocol over `Encoder`, for retrieval and all other tasks."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        self.encoder = encoder
        parameters = list(encoder.parameters())
        self.mteb_model_meta = model_meta(
            name,
            revision=encoder.fingerprint(),
            embed_dim=encoder.dimension,
            max_tokens=encoder.max_length,
            similarity_fn_name=ScoringFunction(encoder.similarity),
            n_parameters=sum(parameter.numel() for parameter in parameters),
            n_embedding_parameters=sum(
                part.backbone.get_input_embeddings().weight.numel() for part in parts_of(encoder)
            ),
            memory_usage_mb=sum(parameter.nbytes for parameter in parameters) / (1 << 20),
            use_instructions=bool(encoder.query_prefix or encoder.document_prefix),
            framework=["PyTorch", "safetensors"],
        )

    def encode(self, inputs: Any, *, prompt_type: PromptType | None = None, **_: Any) -> np.ndarray:
        """`inputs` is a DataLoader. We take its whole column of texts, and sort and pack by length."""
        texts = inputs.dataset["text"][:]
        if prompt_type == PromptType.query:
            return self.encoder.embed_queries(texts)
        return self.encoder.embed_documents(texts)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Dot products; the embeddings of a cosine model have length one."""
        return torch.as_tensor(embeddings1) @ torch.as_tensor(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(-1)


def model_meta(name: str, revision: str, **facts: Any) -> ModelMeta:
    """MTEB needs organisation/name, and stores results under it; two models of one name differ in their revision."""
    organised = name if name.count("/") == 1 and not Path(name).is_absolute() else f"mcontriever/{Path(name).name}"
    return ModelMeta.create_empty({"name": organised, "revision": revision[:40], "framework": ["PyTorch"]} | facts)


def combined_meta(label: str, parts: Sequence[Any], setting: str = "") -> ModelMeta:
    """The meta of a search made of others: its revision changes with any of theirs."""
    revisions = [str(part.mteb_model_meta.revision) for part in parts]
    return model_meta(label, hashlib.sha256(" ".join([*revisions, setting]).encode()).hexdigest())
