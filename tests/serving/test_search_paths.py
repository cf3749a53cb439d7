"""`/search`, `/stores`, `/stats` and `/metrics`: what `mcontriever search` and the store say, as JSON."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mcontriever.encoder import Encoder
from mcontriever.retrieval.rerank import Reranker
from mcontriever.retrieval.searcher import Index
from tests.retrieval.small_corpora import make_store
from tests.serving.conftest import DOCUMENTS, Serve

QUERY = "telescope shows moons"
ARABIC = "المنظار الصغير"


@pytest.fixture(scope="module")
def index(store_folder: Path, encoder: Encoder) -> Index:
    return Index.open(store_folder, encoder=encoder, memory_mb=50)


def found(client: TestClient, **request: Any) -> list[dict[str, Any]]:
    answer = client.post("/search", json=request)
    assert answer.status_code == 200, answer.text
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "hybrid", "explain": True},
        {"mode": "bm25", "terms": "both"},
        {"mode": "dense", "merge": "raw", "index": "exact"},
        {"mode": "hybrid", "fusion": "weighted", "dense_weight": 0.7, "depth": 20},
        {"center_languages": True},
        {"language": ["ar", "sw"]},
        {"min_confidence": 0.2, "prefer": "own"},
        {"prefer": -0.5},
        {"k": 60},
    ],
    ids=str,
)
@pytest.mark.parametrize("query", [QUERY, ARABIC])
def test_hits_are_those_of_the_index(client: TestClient, index: Index, options: dict[str, Any], query: str) -> None:
    changes = {name: value for name, value in options.items() if name not in ("explain", "language", "prefer")}
    prefer = {"own": 1.5}.get(options.get("prefer"), options.get("prefer", 0.0))
    expected = index.search(query, prefer=prefer, languages=tuple(options.get("language", ())), **changes)
    hits = found(client, query=query, **options)
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    for hit, one in zip(hits, expected, strict=True):
        record = one.record(explain=bool(options.get("explain")))
        assert hit.pop("score") == pytest.approx(record.pop("score"), abs=1e-4)
        assert hit.pop("confidence", 0.0) == pytest.approx(record.pop("confidence", 0.0), abs=1e-4)
        assert hit.pop("parts", {}) == pytest.approx(record.pop("parts", {}), abs=1e-4)
        assert hit == record


def test_an_address_asks_as_a_body_does_and_pages_join(client: TestClient) -> None:
    by_body = found(client, query=ARABIC, k=10, language=["ar", "en"], mode="hybrid")
    answer = client.get("/search", params={"query": ARABIC, "k": "10", "language": "ar,en", "mode": "hybrid"}).json()
    assert answer["hits"] == by_body
    assert answer["store"] == "mixed"
    counts = [hit["language"] for hit in by_body]
    assert answer["languages"] == {language: counts.count(language) for language in dict.fromkeys(counts)}
    pages = [found(client, query=ARABIC, k=4, offset=at, language="ar,en", mode="hybrid") for at in (0, 4, 8)]
    assert [hit["id"] for page in pages for hit in page][:10] == [hit["id"] for hit in by_body]
    assert [hit["rank"] for page in pages for hit in page] == list(range(1, 13))


def test_the_words_that_matched_are_marked(client: TestClient) -> None:
    first = found(client, query="Which BRIGHT moons?", mode="bm25", marks=True)[0]
    assert [first["text"][start:end] for start, end in first["text_marks"]] == ["bright", "moons"]
    first = found(client, query="小望远镜", mode="bm25", marks=True)[0]
    assert [first["text"][start:end] for start, end in first["text_marks"]] == ["小望远镜"]
    assert "text_marks" not in found(client, query="moons")[0]


def test_a_cross_encoder_reads_the_best_again_only_where_asked(
    client: TestClient, store_folder: Path, encoder: Encoder, reranker: Reranker
) -> None:
    expected = Index.open(store_folder, encoder=encoder, reranker=reranker).search(QUERY, k=5, depth=20)
    hits = found(client, query=QUERY, k=5, depth=20, rerank=True, explain=True)
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert hits[0]["parts"]["reranker"] == pytest.approx(expected[0].parts["reranker"], abs=1e-4)
    assert "reranker" not in found(client, query=QUERY, explain=True)[0]["parts"]


def test_requests_at_once_are_not_mixed_up(client: TestClient, index: Index) -> None:
    """Different queries, languages, modes and embeddings, answered together."""
    asked = [
        {
            "query": document.text,
            "k": 3,
            "mode": ("dense", "bm25", "hybrid")[number % 3],
            "language": [document.language],
        }
        for number, document in enumerate(DOCUMENTS)
    ]
    with ThreadPoolExecutor(16) as pool:
        vectors = pool.map(lambda one: client.post("/embed", json={"texts": [one["query"]]}).json(), asked)
        answers = list(pool.map(lambda one: found(client, **one), asked))
        embedded = [answer["vectors"][0] for answer in vectors]
    for number, (one, hits) in enumerate(zip(asked, answers, strict=True)):
        expected = index.search(one["query"], k=3, mode=one["mode"], languages=tuple(one["language"]))
        assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
        assert embedded[number] == pytest.approx(index.encoder.embed_documents([one["query"]])[0].tolist(), abs=1e-4)
    together = [line for line in client.get("/metrics").text.splitlines() if line.startswith("mcontriever_answered")]
    batches = float(next(line for line in together if "_count" in line).split()[-1])
    assert batches < float(next(line for line in together if "_sum" in line).split()[-1])


def test_several_stores_by_name_and_one_without_vectors(serve: Serve, store_folder: Path, tmp_path: Path) -> None:
    words = make_store(tmp_path / "w", DOCUMENTS[:20], None).folder
    client = serve({"mixed": store_folder, "words": words})
    cards = client.get("/stores").json()["stores"]
    assert [(card["name"], card["documents"], card["modes"], card["model"]) for card in cards] == [
        ("mixed", 60, ["dense", "hybrid", "bm25"], "tiny"),
        ("words", 20, ["bm25"], None),
    ]
    assert cards[0]["languages"] == dict.fromkeys(["ar", "en", "hi", "sw", "zh"], 12)
    assert client.get("/search", params={"query": QUERY}).json()["store"] == "mixed"
    answer = client.get("/search", params={"query": QUERY, "store": "words"}).json()
    assert (answer["store"], answer["hits"][0]["language"]) == ("words", "en")
    assert client.get("/stats", params={"store": "words"}).json()["vectors"] is None
    refused = client.get("/search", params={"query": QUERY, "store": "word"})
    assert (refused.status_code, refused.json()["error"]["fix"]) == (404, "did you mean words?")
    assert client.get("/search", params={"query": "x", "store": "words", "mode": "dense"}).status_code == 409


def test_health_metrics_and_the_description(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    client.get("/search", params={"query": "x"})
    client.get("/wp-login.php")
    metrics = client.get("/metrics").text
    assert 'mcontriever_requests_total{path="/search",status="200"}' in metrics
    assert 'mcontriever_requests_total{path="other",status="404"}' in metrics
    assert "php" not in metrics
    described = client.get("/openapi.json").json()
    fields = described["components"]["schemas"]["SearchRequest"]["properties"]
    assert set(fields) >= {"query", "mode", "language", "merge", "prefer", "min_confidence", "rerank", "explain"}
    assert set(described["paths"]) == {
        "/search", "/embed", "/v1/embeddings", "/v1/models", "/stores", "/stats", "/health", "/metrics",
    }  # fmt: skip


def test_head_is_get_without_a_body(client: TestClient) -> None:
    for path in ("/", "/page.js", "/health", "/search?query=x", "/stores", "/stats", "/v1/models", "/nothing"):
        head, got = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
        assert int(head.headers["Content-Length"]) > 0
    assert (client.head("/embed").status_code, client.head("/search").status_code) == (405, 422)
