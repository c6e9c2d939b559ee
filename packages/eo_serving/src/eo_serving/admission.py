"""What a request must pass before the model sees it: a free place, and a body that is small and quick enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from eo_serving.problem import OutOfTime, SlowBody, TooLarge, TooMany, UnsupportedType

if TYPE_CHECKING:
    from starlette.requests import Request

    from eo_serving.configuration import Limits


class Admission:
    """Counts the requests inside; so many are worked on at once, so many may wait, more are turned away.

    A place is taken before the body is read, so that bodies in memory are bounded by places times body limit.

    Args:
        limits: How many.
    """

    def __init__(self, limits: Limits) -> None:
        self._places = limits.concurrency + limits.waiting
        self._working = asyncio.Semaphore(limits.concurrency)
        self._inside = 0

    @property
    def inside(self) -> int:
        """How many requests hold a place."""
        return self._inside

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for a request, from before its body is read until it is answered.

        Raises:
            TooMany: If there is none.
        """
        if self._inside >= self._places:
            raise TooMany(f"{self._inside} requests are here already", fix="Try again in a moment")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def turn(self, seconds: float) -> AsyncIterator[Callable[[], float]]:
        """Wait for the turn of a request whose body is here.

        Args:
            seconds: That it has until its answer must be ready, waiting included.

        Yields:
            What tells the seconds that are left.

        Raises:
            OutOfTime: If its turn does not come in time.
        """
        end = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._working.acquire()
        except TimeoutError as error:
            raise OutOfTime(
                f"its turn did not come in {seconds:g} s: the endpoint is busy", fix="Try again in a moment"
            ) from error
        try:
            yield lambda: end - time.monotonic()
        finally:
            self._working.release()


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request, never more of it than is allowed.

    Args:
        request: The request.
        most: Bytes that are taken.
        seconds: Time in which it must arrive.

    Raises:
        TooLarge: As soon as it is clear that it is longer.
        SlowBody: If it does not arrive in time.
        UnsupportedType: If it is compressed as a whole.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedType(
            f"Content-Encoding '{encoding[:40]}' is not taken", where="Content-Encoding", fix="Send the body as it is"
        )
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                parts.append(part)
    except TimeoutError as error:
        raise SlowBody(f"the body did not arrive in {seconds:g} s", where="body", fix="Send it faster") from error
    return b"".join(parts)


def check_lists(body: bytes, most: int) -> None:
    """Refuse JSON of too many lists before anyone parses it: 32 MiB of `[],` would take 1.2 GiB and 9 s.

    Raises:
        TooLarge: If there are more than `most` lists and objects.
    """
    if body.count(b"[") + body.count(b"{") > most:
        raise TooLarge(f"the JSON holds more than {most} lists", where="body", fix="Send a GeoTIFF or an npy file")


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        f"the body is longer than {most} bytes",
        where="body",
        fix="Send a smaller raster, or use `eo-serving predict` for whole scenes",
    )
