"""The section `encoder`: which model is trained."""

import typing
from typing import Any

import pydantic

from mcontriever.config.sections import Count, Section, Share


class EncoderSection(Section):
    """Either `name` (a folder, a hub name, mini, nano), or `architecture` (Hugging Face's keys) and `tokenizer` for
    random weights. A value that is not given is the model's own.
    """

    name: str | None = None
    architecture: dict[str, Any] | None = None
    tokenizer: str | None = None
    embeddings_from: str | None = None  # with `architecture`: start from this checkpoint's subword embeddings
    pooling: typing.Literal["mean", "cls"] | None = None
    similarity: typing.Literal["dot", "cosine"] | None = None  # cosine: embeddings of length one
    max_length: Count | None = None  # of texts, once exported; training rows are as long as their windows
    query_prefix: str | None = None
    document_prefix: str | None = None
    dropout: Share | None = None
    own_query_encoder: bool = False  # fine-tuning: weights of their own for queries, as in DPR; both start as this one
    frozen_passages: bool = False  # with own_query_encoder: only queries are trained, and stores made before stay valid
    frozen_embeddings: bool | None = None  # subword vectors stay as they are: faster steps on short texts, less memory
    frozen_layers: Count | None = None  # the lowest so many stay, and all embeddings
    rounding: typing.Literal["int4-blocks"] | None = None  # train as rounded, so that this export loses nothing
    checkpoint_layers: bool = False  # keep no activations, compute them again: less memory, a third more work

    @pydantic.model_validator(mode="after")
    def _has_one_origin(self) -> "EncoderSection":
        if (self.name is None) == (self.architecture is None):
            raise ValueError("give either name, or architecture and tokenizer")
        if (self.architecture is None) != (self.tokenizer is None):
            raise ValueError("architecture and tokenizer go together; a model by name has its own tokenizer")
        if self.frozen_passages and not self.own_query_encoder:
            raise ValueError("frozen_passages leaves only queries to train: set own_query_encoder: true")
        if self.embeddings_from and self.architecture is None:
            raise ValueError("embeddings_from goes with architecture; a model by name has its own embeddings")
        return self
