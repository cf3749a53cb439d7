"""LlamaIndex's embedding and vector store over this package; needs llama-index-core (extra `llama-index`).

from mcontriever import LlamaIndexEmbedding, LlamaIndexStore
index = VectorStoreIndex.from_vector_store(LlamaIndexStore("runs/store"), embed_model=LlamaIndexEmbedding())
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery, VectorStoreQueryResult
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from mcontriever.assembly.document_collection import DocumentCollection, Metadata
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError
from mcontriever.shipped import DEFAULT_MODEL
from mcontriever.texts.documents import Document


class LlamaIndexEmbedding(BaseEmbedding):
    _encoder: Encoder = PrivateAttr()

    def __init__(self, model: str | Encoder = DEFAULT_MODEL, **settings: Any) -> None:
        super().__init__(model_name=str(model) if isinstance(model, str) else "mcontriever", **settings)
        self._encoder = model if isinstance(model, Encoder) else Encoder.load(model, precision="auto")

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._encoder.embed_queries([query])[0].tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._encoder.embed_documents([text])[0].tolist()

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._encoder.embed_documents(texts).tolist()


class LlamaIndexStore(BasePydanticVectorStore):
    """Searches by the query's text; a query's `filters` are refused, because a store filters only by language."""

    stores_text: bool = True
    is_embedding_query: bool = False
    _collection: DocumentCollection = PrivateAttr()

    def __init__(self, folder: str | Path, model: str | Encoder = DEFAULT_MODEL, **options: Any) -> None:
        super().__init__()
        self._collection = DocumentCollection(folder, model, **options)

    @property
    def client(self) -> DocumentCollection:
        return self._collection

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        documents = [
            Document(node.node_id, node.get_content(metadata_mode=MetadataMode.NONE), language=_language(node))
            for node in nodes
        ]
        self._collection.write(documents, [node_to_metadata_dict(node, remove_text=True) for node in nodes])
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        self._collection.delete(self._collection.ids_where(ref_doc_id=ref_doc_id))

    def delete_nodes(self, node_ids: list[str] | None = None, filters: Any = None, **delete_kwargs: Any) -> None:
        self._collection.delete(node_ids or [])

    def get_nodes(self, node_ids: list[str] | None = None, filters: Any = None) -> list[BaseNode]:
        return [_node(document, metadata) for document, metadata in self._collection.get(node_ids or [])]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        if query.query_str is None or query.filters is not None:
            fix = "ask with text and without filters; languages=('sw',) of the store filters by language"
            raise ConfigError("the query has no text, or it has filters", fix=fix)
        found = self._collection.search(query.query_str, query.similarity_top_k)
        return VectorStoreQueryResult(
            nodes=[_node(hit, metadata) for hit, metadata in found],
            similarities=[hit.score for hit, _ in found],
            ids=[hit.id for hit, _ in found],
        )


def _language(node: BaseNode) -> str:
    language = node.metadata.get("language")
    return language if isinstance(language, str) else ""


def _node(document: Document, metadata: Metadata) -> BaseNode:
    """As it was added; for a store that embed made, its text with title and language."""
    if metadata:
        return metadata_dict_to_node(metadata, text=document.text)
    known = {"title": document.title, "language": document.language}
    return TextNode(id_=document.id, text=document.text, metadata=known)
