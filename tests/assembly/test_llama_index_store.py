"""LlamaIndex's index and retriever over our store, with the real package."""

from pathlib import Path

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import Document as LlamaDocument
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery

from mcontriever import Encoder, LlamaIndexEmbedding, LlamaIndexStore
from mcontriever.errors import ConfigError
from tests.retrieval.small_corpora import make_store, mixed_documents

DOCUMENTS = [
    LlamaDocument(
        text="Coral reefs grow in warm, shallow seas.", metadata={"page": 3, "language": "en"}, doc_id="reef"
    ),
    LlamaDocument(text="Kahawa hutoka Ethiopia.", metadata={"language": "sw"}, doc_id="coffee"),
]


def test_an_index_of_llamaindex(tmp_path: Path) -> None:
    nano = Encoder.load("nano")
    embedding = LlamaIndexEmbedding(nano)
    np.testing.assert_allclose(embedding.get_query_embedding("a"), nano.embed_queries(["a"])[0], atol=1e-6)
    texts = ["a", "b"]
    np.testing.assert_allclose(embedding.get_text_embedding_batch(texts), nano.embed_documents(texts), atol=1e-6)
    store = LlamaIndexStore(tmp_path / "s", nano, merge="raw")
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex.from_documents(DOCUMENTS, storage_context=context, embed_model=embedding)
    found = index.as_retriever(similarity_top_k=1).retrieve("Where do reefs grow?")
    assert (found[0].text, found[0].metadata["page"]) == (DOCUMENTS[0].text, 3)
    assert found[0].node.ref_doc_id == "reef"
    index.delete_ref_doc("reef")
    found = index.as_retriever(similarity_top_k=2).retrieve("Where do reefs grow?")
    assert [one.text for one in found] == [DOCUMENTS[1].text]
    (node,) = store.get_nodes([found[0].node.node_id])
    assert node.metadata == {"language": "sw"}
    store.delete_nodes([node.node_id])
    assert len(store.client) == 0


def test_a_store_that_embed_made_and_what_it_refuses(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    folder = make_store(tmp_path / "s", mixed_documents(20), encoder, model=str(tiny_encoder_dir)).folder
    store = LlamaIndexStore(folder, encoder, mode="bm25")
    found = store.query(VectorStoreQuery(query_str="telescope moons", similarity_top_k=2))
    assert found.nodes[0].metadata["language"] == "en"
    assert found.ids == [node.node_id for node in found.nodes]
    with pytest.raises(ConfigError, match="no text, or it has filters"):
        store.query(VectorStoreQuery(query_str="x", filters=MetadataFilters(filters=[])))
