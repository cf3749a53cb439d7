"""LangChain's Embeddings and VectorStore over this package; needs langchain-core (extra `langchain`).

from mcontriever import LangChainEmbeddings, LangChainStore
store = LangChainStore("runs/store")              # any store that embed made, or a new one
retriever = store.as_retriever(search_kwargs={"k": 5, "languages": ("sw",)})
"""

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document as Found
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from mcontriever.assembly.document_collection import DocumentCollection
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError
from mcontriever.shipped import DEFAULT_MODEL
from mcontriever.texts.documents import Document


class LangChainEmbeddings(Embeddings):
    def __init__(self, model: str | Encoder = DEFAULT_MODEL) -> None:
        self.model = model
        self.encoder = model if isinstance(model, Encoder) else Encoder.load(model, precision="auto")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.encoder.embed_documents(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.encoder.embed_queries([text])[0].tolist()


class LangChainStore(VectorStore):
    """`options` are SearchOptions (mode, merge, languages, ...); each search may give its own.

    The metadata `title` and `language`, if they are strings, are the document's own: both are embedded or searched.
    """

    def __init__(self, folder: str | Path, model: str | Encoder = DEFAULT_MODEL, **options: Any) -> None:
        self.collection = DocumentCollection(folder, model, **options)

    @property
    def embeddings(self) -> Embeddings:
        return LangChainEmbeddings(self.collection.encoder)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        texts = list(texts)
        metadata = metadatas or [{} for _ in texts]
        names = [one or str(uuid.uuid4()) for one in ids or [None] * len(texts)]
        documents = [
            Document(name, text, _named(own, "title"), _named(own, "language"))
            for name, text, own in zip(names, texts, metadata, strict=True)
        ]
        self.collection.write(documents, metadata)
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        self.collection.delete(ids or [])
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Found]:
        return [_found(document, metadata) for document, metadata in self.collection.get(ids)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Found]:
        return [found for found, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Found, float]]:
        return [(_found(hit, metadata), hit.score) for hit, metadata in self.collection.search(query, k, **kwargs)]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Found, float]]:
        """The confidence of calibrated search: how probable it is that a hit answers."""
        kwargs = {"merge": "calibrated", **kwargs}
        kwargs.pop("score_threshold", None)  # LangChain compares it itself
        found = self.collection.search(query, k, **kwargs)
        return [(_found(hit, metadata), hit.confidence or 0.0) for hit, metadata in found]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        folder: str | Path = "mcontriever-store",
        **options: Any,
    ) -> "LangChainStore":
        if not isinstance(embedding, LangChainEmbeddings):
            what = f"the embedding is {type(embedding).__name__}, and a store embeds on its own"
            raise ConfigError(what, fix="give LangChainEmbeddings(MODEL)")
        store = cls(folder, embedding.model, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store


def _named(metadata: dict[str, Any], name: str) -> str:
    value = metadata.get(name)
    return value if isinstance(value, str) else ""


def _found(document: Document, metadata: dict[str, Any]) -> Found:
    known = {name: getattr(document, name) for name in ("title", "language") if getattr(document, name)}
    return Found(id=document.id, page_content=document.text, metadata=metadata or known)
