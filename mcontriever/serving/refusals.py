"""Every refusal as JSON: {"error": {"status": 400, "message": "what is wrong", "fix": "what to do"}}."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import orjson
import pydantic
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from mcontriever.config.mistakes import explain_items
from mcontriever.config.sections import Section
from mcontriever.errors import ConfigError, DataError, UserError
from mcontriever.progress import log


class RefusedError(Exception):
    """The error that the client gets. `retry_seconds` says when to try again."""

    def __init__(self, status: int, message: str, fix: str, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.fix, self.retry_seconds = status, message, fix, retry_seconds

    def response(self) -> Response:
        headers = {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(self.body(), self.status, headers, media_type="application/json")

    def body(self) -> bytes:
        return orjson.dumps({"error": {"status": self.status, "message": self.message, "fix": self.fix}})


class ErrorBody(pydantic.BaseModel):
    status: int
    message: str
    fix: str


class ErrorAnswer(pydantic.BaseModel):
    """For OpenAPI."""

    error: ErrorBody


def refusal_of(error: BaseException) -> RefusedError:
    """Of a user's error: a wrong request, or one that this store cannot answer. Where it happened stays here."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, ConfigError | DataError):
        return RefusedError(HTTPStatus.BAD_REQUEST, error.what, error.fix or "correct the request")
    if isinstance(error, UserError):
        return RefusedError(HTTPStatus.CONFLICT, error.what, error.fix or "tell the operator of the server")
    log.error("a request failed", exc_info=error)
    return RefusedError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "the server failed at this request",
        "try it again; the server's log has the reason",
    )


def answer_errors(app: FastAPI, models: dict[str, type[Section]]) -> None:
    """`models` are what the paths take."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return _explained(error, models[request.url.path]).response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        paths = ", ".join(sorted({route.path for route in app.routes if hasattr(route, "path")}))
        if error.status_code == HTTPStatus.NOT_FOUND:
            return RefusedError(error.status_code, "no such path here", f"the paths are {paths}").response()
        if error.status_code == HTTPStatus.BAD_REQUEST:  # what a parser of JSON says without a place
            what, fix = "the body is not valid JSON, or is nested too deeply", "send one JSON object in UTF-8"
            return RefusedError(error.status_code, what, fix).response()
        here = [route for route in app.routes if isinstance(route, Route) and route.path == request.url.path]
        allowed = ", ".join(sorted({method for route in here for method in route.methods or ()}))
        fix = f"use {allowed}; /openapi.json describes all"
        answer = RefusedError(error.status_code, f"{request.method} is not for {request.url.path}", fix).response()
        answer.headers["Allow"] = allowed
        return answer

    @app.exception_handler(RefusedError)
    @app.exception_handler(UserError)
    @app.exception_handler(Exception)
    async def _any(request: Request, error: Exception) -> Response:
        return refusal_of(error).response()


def _explained(error: RequestValidationError, model: type[Section]) -> RefusedError:
    items = list(error.errors())
    for item in items:
        if item["type"] == "json_invalid":
            what = f"the body is not valid JSON: {item['ctx']['error']} at character {item['loc'][-1]}"
            return RefusedError(HTTPStatus.BAD_REQUEST, what, "send one JSON object in UTF-8")
        if len(item["loc"]) < 2 and item["type"] in ("missing", "model_attributes_type", "dict_type"):
            fix = f"send a JSON object (Content-Type: application/json) with {' and '.join(_required(model))}"
            return RefusedError(HTTPStatus.BAD_REQUEST, "the body is not a JSON object", fix)
    explained = explain_items([model], [{**item, "loc": item["loc"][1:]} for item in items], "request")
    return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, explained.what, explained.fix or "correct the request")


def _required(model: type[Section]) -> Iterator[str]:
    return (name for name, field in model.model_fields.items() if field.is_required())


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: these refusals."""
    return {status: {"model": ErrorAnswer, "description": HTTPStatus(status).phrase} for status in statuses}
