"""A teacher of another tokenizer and other dimensions than the tiny student's, and stores of its vectors."""

from pathlib import Path

import pytest

from mcontriever.encoder import Encoder
from mcontriever.retrieval.embedding.embedding_run import EmbeddingRequest, embed
from mcontriever.tokenizer import train_tokenizer
from mcontriever.tokens import load_tokenizer
from tests.conftest import REPOSITORY, SENTENCES

ATLAS = REPOSITORY / "mcontriever" / "atlas" / "train"
ARCHITECTURE = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="package")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    train_tokenizer(SENTENCES, folder / "tokenizer", vocabulary=200)
    prefixes = {"query_prefix": "query: ", "document_prefix": "passage: "}
    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    Encoder.from_random(ARCHITECTURE, tokenizer, seed=3, max_length=256, normalize=True, **prefixes).save(
        folder / "model"
    )
    return folder / "model"


@pytest.fixture(scope="package")
def documents(teacher: Path) -> Path:
    """A store of the atlas's documents, in two shards."""
    folder = teacher.parent / "documents"
    embed(EmbeddingRequest(corpus=str(ATLAS), output=folder, model=str(teacher), shard_documents=100, dtype="fp32"))
    return folder


@pytest.fixture(scope="package")
def queries(teacher: Path) -> Path:
    folder = teacher.parent / "queries"
    corpus = str(ATLAS / "queries.jsonl")
    embed(EmbeddingRequest(corpus=corpus, output=folder, model=str(teacher), as_queries=True, dtype="fp32"))
    return folder
