"""`/embed`, and `/v1/embeddings` as the real openai package calls it."""

import base64
from pathlib import Path

import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from mcontriever.encoder import Encoder
from tests.retrieval.small_corpora import make_store, mixed_documents
from tests.serving.conftest import Serve

TEXTS = ["The river rises in the hills.", "ينبع النهر من التلال", "x"]


@pytest.fixture
def openai_client(client: TestClient) -> openai.OpenAI:
    return openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=client, max_retries=0)


@pytest.mark.parametrize("encoding", ["float", "base64", openai.NOT_GIVEN])
@pytest.mark.parametrize("kind", ["query", "document"])
def test_openais_client_gets_the_encoders_vectors(
    openai_client: openai.OpenAI, encoder: Encoder, encoding: str, kind: str
) -> None:
    answer = openai_client.embeddings.create(
        model="tiny", input=TEXTS, encoding_format=encoding, extra_body={"input_type": kind}
    )
    expected = encoder.embed_queries(TEXTS) if kind == "query" else encoder.embed_documents(TEXTS)
    vectors = [
        np.frombuffer(base64.b64decode(one.embedding), "<f4") if isinstance(one.embedding, str) else one.embedding
        for one in answer.data
    ]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert (answer.model, answer.usage.total_tokens > 3) == ("tiny", True)


def test_one_text_and_the_models(openai_client: openai.OpenAI, encoder: Encoder) -> None:
    answer = openai_client.embeddings.create(model="mixed", input=TEXTS[0], dimensions=encoder.dimension, user="me")
    np.testing.assert_allclose(answer.data[0].embedding, encoder.embed_documents(TEXTS[:1])[0], atol=1e-5)
    assert [model.id for model in openai_client.models.list()] == ["tiny"]


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"model": "tinny", "input": "x"}, 404, "no model 'tinny' is served"),
        ({"model": "tiny", "input": "x", "dimensions": 7}, 422, "the model has 32 dimensions, 7 were asked for"),
        ({"model": "tiny", "input": "x", "dimensions": True}, 422, "dimensions: it takes neither true nor false"),
        ({"model": "tiny", "input": [True, 2]}, 422, "token numbers are another model's"),
        ({"model": "tiny", "input": [1, 2, 3]}, 422, "token numbers are another model's"),
        ({"model": "tiny", "input": ["x", " "]}, 422, "the text is empty"),
        ({"model": "tiny", "input": []}, 422, "input: Tuple should have at least 1 item"),
        ({"model": "tiny", "input": 7}, 422, "input: Input should be a valid tuple"),
        ({"model": "tiny", "input": ["x"] * 257}, 422, "at most 256 items"),
    ],
)
def test_what_openais_client_gets(
    openai_client: openai.OpenAI, request_: dict[str, object], status: int, message: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=message) as caught:
        openai_client.embeddings.create(**request_)
    assert caught.value.status_code == status
    assert caught.value.response.json()["error"]["fix"]


def test_embed(client: TestClient, encoder: Encoder) -> None:
    answer = client.post("/embed", json={"texts": TEXTS, "kind": "query"}).json()
    np.testing.assert_allclose(answer.pop("vectors"), encoder.embed_queries(TEXTS), atol=1e-5)
    assert answer == {"model": "tiny", "dimension": 32}


def test_a_server_without_vectors_has_no_model(serve: Serve, tmp_path: Path) -> None:
    client = serve({"words": make_store(tmp_path / "w", mixed_documents(5), None).folder})
    refused = client.post("/embed", json={"texts": ["x"]})
    assert (refused.status_code, refused.json()["error"]["fix"]) == (409, "serve one that has")
