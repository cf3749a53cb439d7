"""LangChain's own standard tests of embeddings and vector stores, and what is beyond them."""

import functools
from pathlib import Path
from typing import Any

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, VectorStoreIntegrationTests

from mcontriever import Encoder, LangChainEmbeddings, LangChainStore
from mcontriever.errors import ConfigError
from tests.retrieval.small_corpora import make_store, mixed_documents


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return _nano()


@functools.cache
def _nano() -> Encoder:
    return Encoder.load("nano")


class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[LangChainEmbeddings]:
        return LangChainEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": _nano()}


class TestStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path, nano: Encoder) -> LangChainStore:
        return LangChainStore(tmp_path / "store", nano, merge="raw")


def test_a_store_that_embed_made_and_relevance(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    documents = mixed_documents(30)
    folder = make_store(tmp_path / "s", documents, encoder, model=str(tiny_encoder_dir)).folder
    store = LangChainStore(folder, encoder, mode="bm25")
    (found,) = store.similarity_search("telescope moons", k=1)
    assert (found.metadata["language"], "moons" in found.page_content) == ("en", True)
    retriever = store.as_retriever(search_kwargs={"k": 3, "languages": ("sw",)})
    assert {one.metadata["language"] for one in retriever.invoke("unga na maji")} == {"sw"}
    store.add_texts(["zebra"], [{"title": "T", "language": "en", "page": 7}], ids=["new"])
    assert store.similarity_search("zebra", k=1)[0].metadata == {"title": "T", "language": "en", "page": 7}
    again = LangChainStore(folder, encoder, mode="hybrid")
    assert again.get_by_ids(["new"])[0].metadata["page"] == 7
    scores = again.similarity_search_with_relevance_scores("zebra", k=3)
    assert all(0 <= score <= 1 for _, score in scores)
    assert scores[0][0].id == "new"


def test_from_texts_takes_our_embeddings_alone(tmp_path: Path) -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    store = LangChainStore.from_texts(["a river", "a bridge"], LangChainEmbeddings("nano"), folder=tmp_path / "s")
    assert len(store.collection) == 2
    with pytest.raises(ConfigError, match=r"DeterministicFakeEmbedding, and a store embeds on its own"):
        LangChainStore.from_texts(["a"], DeterministicFakeEmbedding(size=3), folder=tmp_path / "t")
