"""The gate before the application: who may come in, how much they may bring, and how long they may take to bring it.

Without a token the server listens on this machine only, and the Host header must name it, so that a web page elsewhere
cannot reach it through a name that it controls. HEAD, with which balancers ask for health, is GET without the body.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from mcontriever.serving.limits import LOOPBACK, Limits
from mcontriever.serving.refusals import RefusedError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/", "/page.css", "/page.js", "/health")  # nothing of a store is in them


class Gate:
    """`on_answer` gets the path, status and seconds of each request."""

    def __init__(
        self, app: Application, *, limits: Limits, token: str | None, on_answer: Callable[[str, int, float], None]
    ) -> None:
        self.app, self.limits, self.token, self.on_answer = app, limits, token, on_answer

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.on_answer(scope["path"], message["status"], time.monotonic() - started)
            elif scope["method"] == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        await self._answer(as_get, receive, counted_send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._admit(scope["path"], headers)
            body = await self._body(headers, receive)
        except RefusedError as refusal:
            await refusal.response()(scope, receive, send)
            return
        await self.app(scope, _Replayed(body, receive), send)

    def _admit(self, path: str, headers: dict[str, str]) -> None:
        if self.token is None:
            if _host_of(headers.get("host", "")) not in LOOPBACK:
                what = "the Host header does not name this machine"
                raise RefusedError(HTTPStatus.FORBIDDEN, what, "call localhost, or start the server with a token")
        elif path not in OPEN_PATHS:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                what = "the token is wrong" if given else "no token was given"
                raise RefusedError(HTTPStatus.UNAUTHORIZED, what, "send the header Authorization: Bearer TOKEN")

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """The whole body: small, and in time."""
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.limits.body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.limits.arrival_seconds):
                return await self._received(receive)
        except TimeoutError:
            what = f"the request did not arrive within {self.limits.arrival_seconds:g} s"
            raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, what, "send it faster, or in smaller parts") from None

    async def _received(self, receive: Receive) -> bytes:
        parts, size, is_more = [], 0, True
        while is_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(HTTPStatus.BAD_REQUEST, "the connection ended before the request", "send it whole")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.limits.body_bytes:
                raise self._too_large()
            is_more = message.get("more_body", False)
        return b"".join(parts)

    def _too_large(self) -> RefusedError:
        what = f"the body is larger than {self.limits.body_bytes >> 20} MB"
        return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what, "send shorter or fewer texts at once")


class _Replayed:
    """The body that was read already, then whatever the connection says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _host_of(header: str) -> str:
    """Without the port; `[::1]:8080` is `::1`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] or header
