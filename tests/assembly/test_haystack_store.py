"""Haystack's own standard tests of document stores, and pipelines with our retriever and our embedders."""

from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.testing.document_store import DocumentStoreBaseTests

from mcontriever import (
    Encoder,
    HaystackDocumentEmbedder,
    HaystackRetriever,
    HaystackStore,
    HaystackTextEmbedder,
)
from mcontriever.errors import ConfigError
from tests.retrieval.small_corpora import make_store, mixed_documents


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return Encoder.load("nano")


class TestStore(DocumentStoreBaseTests):
    @pytest.fixture
    def document_store(self, tmp_path: Path, nano: Encoder) -> HaystackStore:
        return HaystackStore(str(tmp_path / "store"), nano, merge="raw")

    def test_write_documents(self, document_store: HaystackStore) -> None:
        documents = [Document(content="a river"), Document(content="a bridge", meta={"page": 7, "language": "en"})]
        assert document_store.write_documents(documents) == 2
        self.assert_documents_are_equal(document_store.filter_documents(), documents)
        with pytest.raises(DuplicateDocumentError, match="give another policy"):
            document_store.write_documents(documents[:1])


def test_a_pipeline_over_a_store_that_embed_made(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    folder = make_store(tmp_path / "s", mixed_documents(20), encoder, model=str(tiny_encoder_dir)).folder
    store = HaystackStore(str(folder), str(tiny_encoder_dir), mode="bm25")
    pipeline = Pipeline()
    pipeline.add_component("retriever", HaystackRetriever(HaystackStore.from_dict(store.to_dict()), top_k=2))
    first, second = pipeline.run({"retriever": {"query": "telescope moons"}})["retriever"]["documents"]
    assert (first.meta["language"], "moons" in first.content, first.score >= second.score) == ("en", True, True)
    with pytest.raises(ConfigError, match="an encoder in memory cannot be written"):
        HaystackStore(str(folder), encoder).to_dict()
    assert store.count_documents() == len(store.filter_documents()) == 20


def test_embedders_give_the_encoders_vectors_in_a_pipeline_that_was_written_and_read(nano: Encoder) -> None:
    documents = [Document(content="Coral reefs grow.", meta={"title": "Reefs"}), Document(content="Trains run.")]
    embedded = HaystackDocumentEmbedder(nano).run(documents)["documents"]
    vectors = nano.embed_documents([one.content for one in documents], ["Reefs", ""])
    np.testing.assert_allclose([one.embedding for one in embedded], vectors, rtol=1e-6)
    assert [one.embedding for one in documents] == [None, None]
    assert HaystackDocumentEmbedder(nano).run([]) == {"documents": []}
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(embedded)
    pipeline = Pipeline()
    pipeline.add_component("embedder", HaystackTextEmbedder("nano"))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    (found,) = pipeline.run({"embedder": {"text": "corals"}})["retriever"]["documents"]
    assert found.content == "Coral reefs grow."
    again = HaystackTextEmbedder.from_dict(HaystackTextEmbedder("nano").to_dict())
    np.testing.assert_allclose(again.run("corals")["embedding"], nano.embed_queries(["corals"])[0], rtol=1e-5)
    with pytest.raises(ConfigError, match="an encoder in memory cannot be written"):
        HaystackTextEmbedder(nano).to_dict()
    with pytest.raises(TypeError, match="give a list of haystack's Documents"):
        HaystackDocumentEmbedder(nano).run("a text")
    with pytest.raises(TypeError, match="documents are for HaystackDocumentEmbedder"):
        HaystackTextEmbedder(nano).run(documents)
