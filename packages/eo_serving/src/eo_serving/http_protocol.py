"""uvicorn's HTTP/1.1 with what it lacks: heads must come in time, and what is no HTTP is refused as all else is."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from eo_serving.problem import PROBLEM_TYPE, Problem


class BoundedProtocol(H11Protocol):
    """One connection.

    Args:
        head_seconds: From its beginning, or the first byte of a later request, until that request's head is here.
        options: Of uvicorn's protocol.
    """

    def __init__(self, *, head_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._head_seconds = head_seconds
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time of the first head begins."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """The time of a head ends once all of it is here; bytes of the next one begin another."""
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._forget_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """The answer to what cannot be parsed, which uvicorn would give as plain text."""
        self._refuse(Problem(400, "this is no HTTP/1.1 request", fix="Use an HTTP client"))

    def _watch_head(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget_head()
        elif self._late is None:
            slow = Problem(408, f"the request's head did not arrive in {self._head_seconds:g} s", fix="Send it faster")
            self._late = self.loop.call_later(self._head_seconds, partial(self._refuse, slow))

    def _forget_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, problem: Problem) -> None:
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:  # else an answer has begun, and can only be cut
            headers = [("Content-Type", PROBLEM_TYPE), ("Connection", "close")]
            head = h11.Response(status_code=problem.status, headers=headers, reason=problem.title.encode())
            for event in (head, h11.Data(data=problem.body()), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
