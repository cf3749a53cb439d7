"""Haystack's embedders over this package, for other document stores; needs haystack-ai (extra `haystack`).

from mcontriever import HaystackDocumentEmbedder, HaystackTextEmbedder
indexing.add_component("embedder", HaystackDocumentEmbedder("mini"))
asking.add_component("embedder", HaystackTextEmbedder("mini"))
"""

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError
from mcontriever.shipped import DEFAULT_MODEL


class _Embedder:
    """The model is loaded by `warm_up`, which a pipeline calls, or by the first run."""

    def __init__(self, model: str | Encoder = DEFAULT_MODEL) -> None:
        self.model = model
        self._encoder = model if isinstance(model, Encoder) else None

    @property
    def encoder(self) -> Encoder:
        if self._encoder is None:
            assert isinstance(self.model, str)
            self._encoder = Encoder.load(self.model, precision="auto")
        return self._encoder

    def warm_up(self) -> None:
        assert self.encoder is not None

    def to_dict(self) -> dict[str, Any]:
        if not isinstance(self.model, str):
            what = "an encoder in memory cannot be written into a pipeline's file"
            raise ConfigError(what, fix="give the model's name or folder")
        return default_to_dict(self, model=self.model)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        return default_from_dict(cls, data)


@component
class HaystackTextEmbedder(_Embedder):
    """Embeds a query."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        if not isinstance(text, str):
            raise TypeError("give a text; documents are for HaystackDocumentEmbedder")
        return {"embedding": self.encoder.embed_queries([text])[0].tolist()}


@component
class HaystackDocumentEmbedder(_Embedder):
    """Embeds documents, each with the title that its meta has."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise TypeError("give a list of haystack's Documents; a query is for HaystackTextEmbedder")
        if not documents:
            return {"documents": []}
        titles = [one.meta.get("title") for one in documents]
        vectors_NH = self.encoder.embed_documents(
            [one.content or "" for one in documents],
            [title if isinstance(title, str) else "" for title in titles],
        )
        embedded = [replace(one, embedding=row_H.tolist()) for one, row_H in zip(documents, vectors_NH, strict=True)]
        return {"documents": embedded}
