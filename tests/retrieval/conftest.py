"""The tiny encoder, loaded once, and a store of 90 documents in five languages."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from tests.retrieval.small_corpora import make_store, mixed_documents


@pytest.fixture(scope="session")
def encoder(tiny_encoder_dir: Path) -> Encoder:
    return Encoder.load(tiny_encoder_dir)


@pytest.fixture(scope="session")
def mixed_store(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, tiny_encoder_dir: Path) -> EmbeddingStore:
    """For reading only: fp32, four shards."""
    folder = tmp_path_factory.mktemp("stores") / "mixed"
    return make_store(
        folder, mixed_documents(90), encoder, model=str(tiny_encoder_dir), dtype="fp32", shard_documents=25
    )


@pytest.fixture(params=[1, 3], ids=["one core", "three cores"])
def cores(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many as torch may take; the suite's other tests run with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)
