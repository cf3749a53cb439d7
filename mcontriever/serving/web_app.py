"""The application: paths, what they take and answer. Everything slow goes through the waiting line."""

import base64
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
import numpy as np
import orjson
from fastapi import FastAPI, Query, Response
from fastapi.responses import FileResponse

from mcontriever.config.sections import Section
from mcontriever.serving.answers import EmbedAnswer, OpenAIAnswer, OpenAIModels, SearchResults, StoreList
from mcontriever.serving.asked import EmbedRequest, OpenAIRequest, SearchRequest, StatsRequest
from mcontriever.serving.gate import Gate
from mcontriever.serving.limits import Limits
from mcontriever.serving.refusals import RefusedError, answer_errors, described
from mcontriever.serving.served import Embedded, SearchAnswer, Served
from mcontriever.serving.server_metrics import ServerMetrics
from mcontriever.serving.waiting_line import WaitingLine

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
BUSY = described(400, 401, 409, 413, 422, 429, 503, 504)


def make_app(served: Served, *, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    limits = limits or Limits()
    metrics = ServerMetrics(lambda: len(line))
    line = WaitingLine(served.answer, limits, metrics.count_batch)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        line.close()
        served.close()

    app = FastAPI(
        title="mcontriever",
        version=version("mcontriever"),
        description="Find a document in any language from a query in any language.",
        docs_url=None,  # both would load scripts from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    asked: dict[str, type[Section]] = {
        "/search": SearchRequest,
        "/stats": StatsRequest,
        "/embed": EmbedRequest,
        "/v1/embeddings": OpenAIRequest,
    }
    answer_errors(app, asked)
    _add_search(app, line)
    _add_embedding(app, line, served)
    _add_facts(app, served, metrics)
    app.add_middleware(Gate, limits=limits, token=token, on_answer=metrics.count)
    return app


def _add_search(app: FastAPI, line: WaitingLine) -> None:
    async def search(request: SearchRequest) -> Response:
        started = time.monotonic()
        answer = await line.ask(request)
        assert isinstance(answer, SearchAnswer)
        found = Counter(str(hit["language"]) for hit in answer.hits)
        took = round(1000 * (time.monotonic() - started), 1)
        return _json({"store": answer.store, "took_ms": took, "languages": found, "hits": answer.hits})

    @app.get("/search", response_model=SearchResults, responses=BUSY, summary="Search a store")
    async def search_by_address(request: Annotated[SearchRequest, Query()]) -> Response:
        return await search(request)

    @app.post("/search", response_model=SearchResults, responses=BUSY, summary="Search a store")
    async def search_by_body(request: SearchRequest) -> Response:
        return await search(request)


def _add_embedding(app: FastAPI, line: WaitingLine, served: Served) -> None:
    async def embedded(request: EmbedRequest) -> Embedded:
        answer = await line.ask(request)
        assert isinstance(answer, Embedded)
        return answer

    @app.post("/embed", response_model=EmbedAnswer, responses=BUSY, summary="Embed texts")
    async def embed(request: EmbedRequest) -> Response:
        answer = await embedded(request)
        dimension = answer.vectors_NH.shape[1]
        return _json({"model": answer.model, "dimension": dimension, "vectors": answer.vectors_NH})

    @app.post("/v1/embeddings", response_model=OpenAIAnswer, responses=BUSY, summary="As OpenAI's clients call it")
    async def openai_embeddings(request: OpenAIRequest) -> Response:
        asked = EmbedRequest(texts=request.texts, kind=request.input_type, model=request.model)
        answer = await embedded(asked)
        dimension = answer.vectors_NH.shape[1]
        if request.dimensions not in (None, dimension):
            what = f"the model has {dimension} dimensions, {request.dimensions} were asked for"
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, what, "omit dimensions")
        data = [
            {"object": "embedding", "index": number, "embedding": _written(vector_H, request.encoding_format)}
            for number, vector_H in enumerate(answer.vectors_NH)
        ]
        usage = {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens}
        return _json({"object": "list", "data": data, "model": answer.model, "usage": usage})

    @app.get("/v1/models", response_model=OpenAIModels, summary="The models of /v1/embeddings")
    async def openai_models() -> Response:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "mcontriever"} for name in served.models()]
        return _json({"object": "list", "data": models})


def _add_facts(app: FastAPI, served: Served, metrics: ServerMetrics) -> None:
    @app.get("/stores", response_model=StoreList, summary="What is served")
    async def stores() -> Response:
        return _json({"stores": [asdict(card) for card in served.cards()]})

    @app.get("/stats", responses=described(401, 404, 409, 422, 503), summary="What is in a store")
    async def stats(request: Annotated[StatsRequest, Query()]) -> Response:
        return _json(await anyio.to_thread.run_sync(served.facts, request.store))

    @app.get("/health", summary="Whether stores can be searched")
    async def health() -> Response:
        is_well = all(card.is_there for card in served.cards())
        return _json({"status": "ok" if is_well else "a store is gone"}, 200 if is_well else 503)

    @app.get("/metrics", summary="For Prometheus")
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for path, name in FILES.items():
        app.get(path, include_in_schema=False)(_sender_of(PAGE / name))


def _sender_of(path: Path) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(path, headers=PAGE_HEADERS)

    return send


def _written(vector_H: np.ndarray, encoding: str) -> Any:
    return base64.b64encode(vector_H.astype("<f4").tobytes()).decode() if encoding == "base64" else vector_H


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")
