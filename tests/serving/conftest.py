"""A store of 60 documents in five languages with the tiny encoder, and a server of it in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from mcontriever.assembly.served_stores import ServedStores
from mcontriever.encoder import Encoder
from mcontriever.retrieval.rerank import Reranker
from mcontriever.serving.limits import Limits
from mcontriever.serving.web_app import make_app
from tests.retrieval.small_corpora import make_store, mixed_documents
from tests.retrieval.test_rerank import save_cross_encoder

DOCUMENTS = mixed_documents(60)
Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def encoder(tiny_encoder_dir: Path) -> Encoder:
    return Encoder.load(tiny_encoder_dir, precision="auto")


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, tiny_encoder_dir: Path) -> Path:
    """For reading only."""
    folder = tmp_path_factory.mktemp("stores") / "mixed"
    return make_store(folder, DOCUMENTS, encoder, model=str(tiny_encoder_dir), shard_documents=25).folder


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Reranker:
    return Reranker.load(str(save_cross_encoder(tmp_path_factory.mktemp("cross") / "tiny", tiny_tokenizer_dir)))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A client of a server in this process."""
    clients = []

    def start(
        stores: dict[str, Path], limits: Limits | None = None, token: str | None = None, **settings: Any
    ) -> TestClient:
        app = make_app(ServedStores(stores, memory_mb=50, **settings), limits=limits, token=token)
        clients.append(TestClient(app, base_url="http://localhost", raise_server_exceptions=False).__enter__())
        return clients[-1]

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture(scope="session")
def client(store_folder: Path, reranker: Reranker) -> Iterator[TestClient]:
    app = make_app(ServedStores({"mixed": store_folder}, memory_mb=50, reranker=reranker))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client
