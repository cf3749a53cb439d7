"""Haystack's document store and retriever over this package; needs haystack-ai (extra `haystack`).

from mcontriever import HaystackRetriever, HaystackStore
pipeline.add_component("retriever", HaystackRetriever(HaystackStore("runs/store"), top_k=5))
"""

from pathlib import Path
from typing import Any

from haystack import Document as Found
from haystack import component, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils.filters import document_matches_filter

from mcontriever.assembly.document_collection import DocumentCollection, Metadata
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError
from mcontriever.shipped import DEFAULT_MODEL
from mcontriever.texts.documents import Document


class HaystackStore:
    """It embeds what is written, so no embedder is needed. Without a policy an existing id is an error.

    `options` are SearchOptions; `meta`'s title and language, if they are strings, are the document's own.
    """

    def __init__(self, folder: str, model: str | Encoder = DEFAULT_MODEL, **options: Any) -> None:
        self.folder, self.model, self.options = str(folder), model, options
        self.collection = DocumentCollection(Path(folder), model, **options)

    def to_dict(self) -> dict[str, Any]:
        if not isinstance(self.model, str):
            what = "an encoder in memory cannot be written into a pipeline's file"
            raise ConfigError(what, fix="give the model's name or folder")
        return default_to_dict(self, folder=self.folder, model=self.model, **self.options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "HaystackStore":
        return default_from_dict(cls, data)

    def count_documents(self) -> int:
        return len(self.collection)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Found]:
        """Of all documents, which are read for it."""
        found = [_found(document, metadata) for document, metadata in self.collection.get(self.collection.ids())]
        return [one for one in found if not filters or document_matches_filter(filters, one)]

    def write_documents(self, documents: list[Found], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        if not isinstance(documents, list) or not all(isinstance(one, Found) for one in documents):
            raise ValueError("give a list of haystack's Documents")
        if policy != DuplicatePolicy.OVERWRITE:
            there = {document.id for document, _ in self.collection.get([one.id for one in documents])}
            if there and policy != DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(f"there already: {', '.join(sorted(there)[:3])}; give another policy")
            documents = [one for one in documents if one.id not in there]
        own = [
            Document(one.id, one.content or "", _named(one.meta, "title"), _named(one.meta, "language"))
            for one in documents
        ]
        self.collection.write(own, [one.to_dict(flatten=False) | {"content": None} for one in documents])
        return len(documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        self.collection.delete(document_ids)


@component
class HaystackRetriever:
    def __init__(self, document_store: HaystackStore, top_k: int = 10) -> None:
        self.document_store, self.top_k = document_store, top_k

    @component.output_types(documents=list[Found])
    def run(self, query: str, top_k: int | None = None) -> dict[str, list[Found]]:
        hits = self.document_store.collection.search(query, top_k or self.top_k)
        return {"documents": [_found(hit, metadata, hit.score) for hit, metadata in hits]}


def _named(meta: dict[str, Any], name: str) -> str:
    value = meta.get(name)
    return value if isinstance(value, str) else ""


def _found(document: Document, metadata: Metadata, score: float | None = None) -> Found:
    """As it was written; for a store that embed made, its text with title and language."""
    known = {"id": document.id, "meta": {"title": document.title, "language": document.language}}
    return Found.from_dict({**(metadata or known), "content": document.text, "score": score})
