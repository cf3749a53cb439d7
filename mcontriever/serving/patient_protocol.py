"""uvicorn's HTTP with patience that ends: a client that never finishes its request's head is sent away.

uvicorn waits for one for ever, so a few hundred idle clients would take all of a server's connections.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mcontriever.serving.refusals import RefusedError


class PatientProtocol(H11Protocol):
    """A request has as long to arrive as a connection that is kept may be idle."""

    _leaving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._leaving = self.loop.call_later(self.timeout_keep_alive, self._send_away)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stay()
        elif self._leaving is None and not self.transport.is_closing():
            self._leaving = self.loop.call_later(self.timeout_keep_alive, self._send_away)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio takes what uvicorn never returns
        """A client that has said all and waits gets its answer; uvicorn would leave."""
        is_waiting = self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)
        if is_waiting:
            self.cycle.keep_alive = False
        return is_waiting

    def connection_lost(self, exc: Exception | None) -> None:
        self._stay()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        fix = "send HTTP/1.1; letters beyond ASCII in an address are written as %D9%83 (curl -G --data-urlencode)"
        self._refuse(RefusedError(HTTPStatus.BAD_REQUEST, "this is not an HTTP request", fix))

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _send_away(self) -> None:
        what = f"the request did not arrive within {self.timeout_keep_alive:g} s"
        self._refuse(RefusedError(HTTPStatus.REQUEST_TIMEOUT, what, "send it faster"))

    def _refuse(self, refusal: RefusedError) -> None:
        status, body = HTTPStatus(refusal.status), refusal.body()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()
