"""The only way out for what reads addresses of callers: a proxy on loopback that looks where each connection leads.

GDAL resolves names and follows redirects by itself; it is told to use this proxy, which connects to none but the
servers on the list, at an address that it has looked at itself, so that no name can lead elsewhere a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from eo_serving.remote_rules import PORTS, Origin, covered, is_public, origin_of, origins

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

log = logging.getLogger(__name__)

_HEAD: Final = 2**14
_PIECE: Final = 2**16
_CONNECT_SECONDS: Final = 10.0
_DROPPED: Final = ("connection", "keep-alive", "proxy-", "upgrade:", "te:", "trailer", "expect:")
"""Headers of one connection, by their beginning: the next has its own."""
_REQUEST: Final = re.compile(r"(CONNECT|GET|HEAD) (\S+) HTTP/1\.[01]")


class GuardedProxy:
    """A proxy for one request of one caller; use it as an asynchronous context manager.

    Args:
        prefixes: What may be read.
        trusted: Servers that whoever runs the endpoint has named elsewhere, such as the store's; they may be private.
        private: Whether the prefixes' servers may have private addresses.
        most: Bytes that may come in all together.

    Attributes:
        refused: Why connections were refused, in words for the caller.
        exceeded: Whether more bytes came than may.
    """

    def __init__(
        self, prefixes: Sequence[str], *, trusted: Collection[Origin] = (), private: bool = False, most: int
    ) -> None:
        self._prefixes = tuple(prefixes)
        self._origins = origins(prefixes)
        self._trusted = frozenset(trusted)
        self._private = private
        self._left = most
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused: list[str] = []
        self.exceeded = False

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None, "enter it first"  # noqa: S101
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as a task
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the caller's request is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, _, fields = head.partition("\r\n")
        asked = _REQUEST.fullmatch(line)
        target = None if asked is None else self._target(asked[1], asked[2])
        if asked is None or target is None:
            await self._refuse(writer, "the address leads to a server or path that is not listed")
            return
        try:
            address = await self._resolve(target)
        except (OSError, UnicodeError):  # the latter of names that no resolver takes
            await self._say(writer, "502 Bad Gateway")
            return
        if address is None:
            await self._refuse(writer, "the address leads into a private network")
            return
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                theirs, ours = await asyncio.open_connection(address, target.port)
        except (OSError, TimeoutError):
            await self._say(writer, "502 Bad Gateway")
            return
        try:
            if asked[1] == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                up = asyncio.create_task(_pour(reader, ours))
            else:  # nothing follows: another request on this connection would not have been looked at
                ours.write(_forwarded(asked[1], asked[2], fields))
                up = None
            try:
                await self._bring(theirs, writer)
            finally:
                if up is not None:
                    up.cancel()
                    await asyncio.gather(up, return_exceptions=True)
        finally:
            ours.close()

    def _target(self, method: str, asked: str) -> Origin | None:
        """The server that a request means, if it may be asked for this."""
        if method == "CONNECT":
            host, _, port = asked.rpartition(":")
            origin = Origin("https", host.strip("[]").lower().rstrip("."), int(port) if port.isdecimal() else 0)
            return origin if origin in self._origins | self._trusted else None
        try:
            parts = urlsplit(asked)
            if parts.scheme not in PORTS or not parts.hostname:
                return None
            origin = origin_of(parts)
        except ValueError:  # a port that is none, an address in brackets that is none
            return None
        return origin if origin in self._trusted or covered(asked, self._prefixes) else None

    async def _resolve(self, target: Origin) -> str | None:
        """An address of a server; None where one of its addresses is none that may be asked."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if self._private or target in self._trusted or all(map(is_public, addresses)):
            return addresses[0]
        return None

    async def _bring(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What a server answers, as long as it is not too much."""
        while piece := await theirs.read(_PIECE):
            self._left -= len(piece)
            if self._left < 0:
                self.exceeded = True
                return
            writer.write(piece)
            await writer.drain()

    async def _refuse(self, writer: asyncio.StreamWriter, why: str) -> None:
        self.refused.append(why)
        await self._say(writer, "403 Forbidden")

    async def _say(self, writer: asyncio.StreamWriter, status: str) -> None:
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()


def _forwarded(method: str, asked: str, fields: str) -> bytes:
    """A request as the server gets it: the path alone, and one request a connection."""
    parts = urlsplit(asked)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [line for line in fields.split("\r\n") if line and not line.lower().startswith(_DROPPED)]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode("latin-1")
