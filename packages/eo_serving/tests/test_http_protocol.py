"""Heads that do not come, and what is no HTTP: on real sockets, before an application that answers everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from eo_serving.http_protocol import BoundedProtocol

SECONDS = 0.4
GOOD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def application(scope: Any, receive: Any, send: Any) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


@asynccontextmanager
async def running() -> AsyncIterator[int]:
    protocol = cast("type[asyncio.Protocol]", partial(BoundedProtocol, head_seconds=SECONDS))
    config = uvicorn.Config(application, port=0, http=protocol, log_config=None, lifespan="off", timeout_keep_alive=30)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


def talk(say: Callable[[Pair], Awaitable[Any]]) -> Any:
    async def scenario() -> Any:
        async with running() as port, asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await say((reader, writer))
            finally:
                writer.close()

    return asyncio.run(scenario())


def problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    found: dict[str, Any] = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    return found


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"G"])
def test_a_head_that_does_not_come(sent: bytes) -> None:
    async def say(pair: Pair) -> bytes:
        pair[1].write(sent)
        return await pair[0].read()  # until the server ends the connection

    said = problem(talk(say))
    assert (said["status"], said["detail"]) == (408, "the request's head did not arrive in 0.4 s")


def test_a_head_that_comes_byte_by_byte() -> None:
    async def say(pair: Pair) -> bytes:
        reading = asyncio.create_task(pair[0].read())
        while not reading.done():
            pair[1].write(b"a")
            await asyncio.sleep(0.05)
        return reading.result()

    assert problem(talk(say))["status"] == 408


def test_the_head_of_a_later_request() -> None:
    """A connection may be idle between two requests, but not within a head."""

    async def say(pair: Pair) -> bytes:
        reader, writer = pair
        for _ in range(2):
            writer.write(GOOD)
            assert b"200" in await reader.readline()
            await reader.readuntil(b"0 bytes")
            await asyncio.sleep(2 * SECONDS)
        writer.write(GOOD[:-5])
        return await reader.read()

    assert problem(talk(say))["status"] == 408


def test_bodies_have_a_time_of_their_own() -> None:
    async def say(pair: Pair) -> bytes:
        pair[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nab")
        await asyncio.sleep(2 * SECONDS)
        pair[1].write(b"cd")
        return await pair[0].read()

    assert b"4 bytes" in talk(say)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /\r\n\r\n",
        GOOD[:-2] + b"no colon\r\n\r\n",
    ],
)
def test_what_is_no_http(sent: bytes) -> None:
    async def say(pair: Pair) -> bytes:
        pair[1].write(sent)
        return await pair[0].read()

    assert problem(talk(say))["status"] == 400


def test_no_http_within_a_body() -> None:
    async def say(pair: Pair) -> bytes:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        pair[1].write(head + b"junk\r\n")
        return await pair[0].read()

    assert problem(talk(say))["status"] == 400
