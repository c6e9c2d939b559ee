"""The proxy by itself: where a tunnel may lead, and how much may come through it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eo_serving.guarded_proxy import GuardedProxy
from eo_serving.remote_rules import Origin


async def through(proxy_options: dict[str, Any], request: str, answer: bytes = b"hello") -> tuple[bytes, GuardedProxy]:
    """What comes of a request to a proxy before a server that answers every connection, `{port}` being its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = {"most": 2**20, **proxy_options}
    options["prefixes"] = [prefix.format(port=port) for prefix in options["prefixes"]]
    options["trusted"] = [Origin("https", host, port) for host in options.get("trusted", ())]
    async with server, GuardedProxy(**options) as proxy:
        host, _, own = proxy.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(own))
        writer.write(request.format(port=port).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x")
        rest = await reader.read()
        writer.close()
    return head + rest, proxy


TUNNEL = "CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n"
LISTED = {"prefixes": ["https://127.0.0.1:{port}/"], "private": True}


def test_a_tunnel_to_a_listed_server() -> None:
    said, proxy = asyncio.run(through(LISTED, TUNNEL))
    assert said == b"HTTP/1.1 200 Connection established\r\n\r\nhello"
    assert (proxy.refused, proxy.exceeded) == ([], False)


@pytest.mark.parametrize(
    ("options", "request_line", "why"),
    [
        ({"prefixes": ["https://127.0.0.2:{port}/"], "private": True}, TUNNEL, "not listed"),
        ({"prefixes": ["https://127.0.0.1:1/"], "private": True}, TUNNEL, "not listed"),
        ({"prefixes": ["http://127.0.0.1:{port}/"], "private": True}, TUNNEL, "not listed"),  # http is no tunnel
        ({"prefixes": ["https://127.0.0.1:{port}/"]}, TUNNEL, "private network"),
        ({"prefixes": ["https://localhost:{port}/"]}, TUNNEL.replace("127.0.0.1", "localhost"), "private network"),
        (LISTED, "CONNECT 127.0.0.1 HTTP/1.1\r\n\r\n", "not listed"),
        (LISTED, "POST http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n", "not listed"),
        (LISTED, "GET / HTTP/1.1\r\n\r\n", "not listed"),
        (LISTED, "GET http://127.0.0.1:none/ HTTP/1.1\r\n\r\n", "not listed"),
        (LISTED, "GET http://127.0.0.1:99999/ HTTP/1.1\r\n\r\n", "not listed"),
        (LISTED, "GET http://[127.0.0.1/ HTTP/1.1\r\n\r\n", "not listed"),
        (LISTED, "GET file:///etc/passwd HTTP/1.1\r\n\r\n", "not listed"),
        (LISTED, "GET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n", "not listed"),  # listed for https alone
        (LISTED, "nonsense\r\n\r\n", "not listed"),
    ],
)
def test_what_leads_elsewhere_is_refused(options: dict[str, Any], request_line: str, why: str) -> None:
    said, proxy = asyncio.run(through(options, request_line))
    assert said.startswith(b"HTTP/1.1 403 Forbidden")
    assert b"hello" not in said
    assert why in proxy.refused[0]


def test_a_trusted_server_may_be_private() -> None:
    """The store's own, which whoever runs the endpoint has named."""
    said, _ = asyncio.run(through({"prefixes": [], "trusted": ["127.0.0.1"]}, TUNNEL))
    assert said.endswith(b"hello")


def test_too_much_is_cut() -> None:
    said, proxy = asyncio.run(through({**LISTED, "most": 1000}, TUNNEL, b"y" * 5000))
    assert proxy.exceeded
    assert said.count(b"y") <= 1000


def test_nothing_follows_a_plain_request() -> None:
    """A second request on the connection would not have been looked at: it never reaches the server."""
    listed = {"prefixes": ["http://127.0.0.1:{port}/a/"], "private": True}
    line = "GET http://127.0.0.1:{port}/a/x HTTP/1.1\r\nHost: h\r\nProxy-Authorization: secret\r\n\r\n"

    async def run() -> bytes:
        seen = bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.extend(await reader.readuntil(b"\r\n\r\n"))
            await asyncio.sleep(0.2)
            seen.extend(reader._buffer)  # type: ignore[attr-defined]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        prefixes = [prefix.format(port=port) for prefix in listed["prefixes"]]  # type: ignore[attr-defined]
        async with server, GuardedProxy(prefixes, private=True, most=1000) as proxy:
            host, _, own = proxy.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(own))
            writer.write((line + line.replace("/a/x", "/b/y")).format(port=port).encode())
            await reader.read()
            writer.close()
        return bytes(seen)

    seen = asyncio.run(run()).decode()
    assert seen.startswith("GET /a/x HTTP/1.1\r\nHost: h\r\nConnection: close")
    assert "/b/y" not in seen
    assert "secret" not in seen
