"""Where an encoder comes from, so that every process of a run can load the same one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcontriever.retrieval.embedding.request import BM25, EmbeddingRequest

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder


@dataclass(frozen=True)
class EncoderOrigin:
    """`name` is a folder, a name of the hub or of a bundled model, or bm25 for no encoder."""

    name: str
    precision: str
    as_queries: bool

    @classmethod
    def of(cls, request: EmbeddingRequest, name: str) -> "EncoderOrigin":
        return cls(name, request.precision, request.as_queries)

    def load(self, device: str) -> "Encoder | None":
        if self.name == BM25:
            return None
        from mcontriever.encoder import Encoder

        light = True if device == "cpu" else None
        encoder = Encoder.load(self.name, device=device, light=light, precision=self.precision)
        if self.as_queries:  # such a store differs in its fingerprint, so no search takes it for documents
            encoder.document_prefix = encoder.query_prefix
        return encoder
