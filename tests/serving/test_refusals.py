"""Bad input over HTTP: one JSON error with status, message and fix each; no folder and no trace in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mcontriever.serving.limits import Limits
from tests.serving.conftest import Serve

JSON = {"Content-Type": "application/json"}


def error_of(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"status", "message", "fix"}
    assert error["status"] == status
    assert error["message"]
    assert error["fix"]
    for secret in ("Traceback", "/tmp", 'File "', "pydantic"):
        assert secret not in answer.text
    return error


@pytest.mark.parametrize(
    ("body", "status", "message", "fix"),
    [
        ("{", 400, "the body is not valid JSON", "send one JSON object"),
        ('{"query": "x"', 400, "the body is not valid JSON", "send one JSON object"),
        ("[" * 100_000, 400, "the body is not valid JSON, or is nested too deeply", "send one JSON object"),
        ("[]", 400, "the body is not a JSON object", "with query"),
        ('"x"', 400, "the body is not a JSON object", "with query"),
        ("", 400, "the body is not a JSON object", "with query"),
        ("{}", 422, "missing key query", "add query"),
        ('{"query": "x", "lanuage": "ar"}', 422, "unknown key lanuage", "did you mean language?"),
        ('{"query": "x", "zzz": 1}', 422, "unknown key zzz", "valid keys: center_languages"),
        ('{"query": " "}', 422, "query: the text is empty", "correct"),
        ('{"query": 7}', 422, "query: Input should be a valid string", "correct"),
        ('{"query": "x", "k": 0}', 422, "k: Input should be greater than or equal to 1", "correct"),
        ('{"query": "x", "k": 1001}', 422, "less than or equal to 1000", "correct"),
        ('{"query": "x", "k": true}', 422, "k: it takes neither true nor false (found True)", "correct"),
        ('{"query": "x", "offset": false}', 422, "offset: it takes neither true nor false", "correct"),
        ('{"query": "x", "depth": true}', 422, "depth: it takes neither true nor false", "correct"),
        ('{"query": "x", "min_confidence": true}', 422, "min_confidence: it takes neither true nor false", "correct"),
        ('{"query": "x", "dense_weight": true}', 422, "dense_weight: it takes neither true nor false", "correct"),
        ('{"query": "x", "prefer": true}', 422, "prefer: it is any, own or a number (found True)", "correct"),
        ('{"query": "x", "k": 600, "offset": 600}', 422, "1200 together, at most 1000 are served", "correct"),
        ('{"query": "x", "mode": "vectors"}', 422, "mode: Input should be 'dense', 'bm25' or 'hybrid'", "correct"),
        ('{"query": "x", "language": [7]}', 422, "language", "correct"),
        ('{"query": "x", "language": "xx"}', 400, "no document is in the language 'xx'", "choose among them"),
        ('{"query": "x", "store": "other"}', 404, "no store 'other' is served", "choose among mixed"),
        ('{"query": "x", "index": "hnsw"}', 409, "no index of kind hnsw (there are: bm25", "mcontriever index mixed"),
        ('{"query": "x", "index": "../.."}', 400, "index is '../..'", "give auto, exact"),
        ('{"query": "x", "merge": "calibrated", "fusion": "rrf"}', 400, "a calibrated merge has its own", "omit them"),
        ('{"query": "x", "prefer": "mine"}', 422, "prefer: it is any, own or a number (found 'mine')", "correct"),
        ('{"query": "x", "prefer": NaN}', 422, "prefer: it is any, own or a number (found nan)", "correct"),
        ('{"query": "x", "min_confidence": NaN}', 422, "min_confidence", "correct"),
        ('{"query": "' + "x" * 10_001 + '"}', 422, "at most 10000 characters (found 'xxx", "correct"),
        ('{"query": "' + "x" * (10 << 20) + '"}', 413, "the body is larger than 4 MB", "shorter"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_searches(client: TestClient, body: str, status: int, message: str, fix: str) -> None:
    error = error_of(client.post("/search", content=body, headers=JSON), status)
    assert message in error["message"]
    assert fix in error["fix"]
    assert len(error["message"]) < 400


def test_other_mistakes(client: TestClient) -> None:
    assert "/search" in error_of(client.get("/serach"), 404)["fix"]
    wrong = client.delete("/search")
    assert error_of(wrong, 405)["message"] == "DELETE is not for /search"
    assert wrong.headers["Allow"] == "GET, POST"
    error_of(client.post("/search", content='{"query": "x"}', headers={"Content-Type": "text/plain"}), 400)
    error_of(client.post("/search", content=b'{"query": "\xff\xfe"}', headers=JSON), 400)
    assert "unknown key q" in error_of(client.get("/search?q=x"), 422)["message"]
    assert error_of(client.get("/stats?store=no"), 404)["fix"] == "choose among mixed"
    assert error_of(client.get("/stats?stoer=mixed"), 422)["fix"] == "did you mean store?"
    for strange in ('{"query": "\\ud800"}', '{"query": "\\u0000\\u202e"}'):
        assert client.post("/search", content=strange, headers=JSON).status_code in (200, 422)


def test_a_body_that_is_larger_than_it_says(client: TestClient) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * (1 << 20)

    error_of(client.post("/search", content=parts(), headers=JSON), 413)


def test_only_this_machine_by_name_without_a_token(client: TestClient) -> None:
    error_of(client.get("/search?query=x", headers={"Host": "evil.example.com"}), 403)
    for host in ("127.0.0.1:8080", "[::1]:8080", "localhost"):
        assert client.get("/search?query=x", headers={"Host": host}).status_code == 200


def test_a_token_opens_all_but_what_shows_nothing(serve: Serve, store_folder: Path) -> None:
    client = serve({"mixed": store_folder}, token="let-me-in")
    for path in ("/search?query=x", "/stores", "/stats", "/metrics", "/openapi.json", "/v1/models", "/nothing"):
        answer = client.get(path)
        assert error_of(answer, 401)["message"] == "no token was given"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for wrong in ("Bearer no", "Bearer let-me-in2", "Basic bGV0", "Bearer \xfc"):
        given = client.get("/stores", headers={"Authorization": wrong.encode("latin-1")})
        assert error_of(given, 401)["message"] == "the token is wrong"
    right = {"Authorization": "Bearer let-me-in", "Host": "search.example.com"}
    assert client.get("/search?query=x", headers=right).status_code == 200
    for path in ("/", "/page.js", "/page.css", "/health"):
        assert client.get(path).status_code == 200


def test_the_page_comes_with_its_rules(client: TestClient) -> None:
    """Nothing of another host, nothing inline, so that text of documents can never act."""
    for path in ("/", "/page.js", "/page.css"):
        answer = client.get(path)
        assert "default-src 'none'; script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "//" not in answer.text.replace("// ", "").replace("http://localhost", "")
    page = client.get("/").text
    assert " style=" not in page
    assert "<script>" not in page
    script = client.get("/page.js").text
    assert not [
        word for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(") if word in script
    ]


def test_times_are_limited(serve: Serve, store_folder: Path) -> None:
    client = serve({"mixed": store_folder}, limits=Limits(answer_seconds=1e-6))
    error = error_of(client.get("/search?query=x"), 504)
    assert error["message"] == "no answer within 1e-06 s"


def test_json_of_a_refusal_is_what_openapi_says(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert described["paths"]["/search"]["post"]["responses"]["429"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ErrorAnswer"
    }
    assert json.dumps(described)
