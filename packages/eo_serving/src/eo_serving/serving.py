"""`eo-serving serve`: the front and its MLServer, until a signal ends both."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import uvicorn

from eo_data.errors import TerraloopError, UsageError
from eo_data.model.files import check_model_uri
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_serving.backend import Backend
from eo_serving.configuration import ServeSection
from eo_serving.front import Front
from eo_serving.http_protocol import BoundedProtocol
from eo_serving.keeper import Keeper
from eo_serving.request_log import RequestLog
from eo_serving.tokens import Tokens
from eo_serving.versions import Versions

log = logging.getLogger(__name__)

_RESTARTS: Final = 3
"""How often in a row MLServer is started again when it ended within `_SHORT` seconds."""
_SHORT: Final = 60.0
_GRACE: Final = 30
"""Seconds that requests get to end after a signal."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the signal must also end the MLServer child."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(
    usecase: UseCase,
    store: Store,
    *,
    host: str,
    port: int,
    backend_port: int,
    state: Path,
    anyone: bool = False,
    grpc_port: int | None = None,
    shadow: str | None = None,
) -> dict[str, Any]:
    """Serve a use case until SIGTERM or SIGINT.

    Args:
        usecase: What is served.
        store: Whose ledger names the champion.
        host: Address of the front.
        port: Port of the front; 0 takes a free one.
        backend_port: Port of MLServer on loopback; 0 takes a free one.
        state: Folder that this server may write: settings, kept versions, what is served, the token.
        anyone: Ask for no token; on loopback only.
        grpc_port: Port of the gRPC door on the same host; None leaves it out.
        shadow: URI of a challenger that is asked beside the version that answers; None leaves it out.

    Returns:
        `endpoint` and `ended`, the signal that ended it.

    Raises:
        UsageError: If a port or the state folder is taken, a token is none, or everyone on a network would be let in.
        TerraloopError: If MLServer cannot be kept running.
    """
    section = usecase.section("serve", ServeSection)
    if shadow is not None:
        check_model_uri(shadow, "--shadow")
    state = state.resolve()
    with _held(state):
        tokens = Tokens.obtain(state, host, anyone=anyone)
        if backend_port:
            _listen("127.0.0.1", backend_port, "--backend-port").close()
        listener = _listen(host, port, "--port")
        if grpc_port is not None:
            _listen(host, grpc_port, "--grpc-port").close()
        door = None if grpc_port is None else f"[{host}]:{grpc_port}" if ":" in host else f"{host}:{grpc_port}"
        backend = Backend(state, backend_port)
        keeper = Keeper(usecase, backend, Versions(state / "versions", store, usecase.name), state, shadow)
        requests = RequestLog(store, usecase.name, section.log) if section.log.enabled else None
        front = Front(usecase, keeper, backend, tokens, requests)
        with listener:
            return asyncio.run(_serve(usecase.name, section, listener, backend, keeper, front, tokens, door))


@contextlib.contextmanager
def _held(state: Path) -> Iterator[None]:
    """A state folder that no other server uses meanwhile; whoever dies lets go of it."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        handle = (state / "lock").open("w")
    except OSError as error:
        raise UsageError(
            f"{state} cannot be used ({error.strerror})", where="--state", fix="Name a folder that can be written"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another server uses {state}", where="--state", fix="Name another folder, or end that server"
            ) from error
        yield


async def _serve(
    name: str,
    section: ServeSection,
    listener: socket.socket,
    backend: Backend,
    keeper: Keeper,
    front: Front,
    tokens: Tokens,
    grpc_address: str | None,
) -> dict[str, Any]:
    server = _Server(
        uvicorn.Config(
            front.application(),
            # A partial is no class, but uvicorn only calls it.
            http=cast("type[asyncio.Protocol]", partial(BoundedProtocol, head_seconds=section.limits.body_seconds)),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_GRACE,
        )
    )
    door = None
    if grpc_address is not None:
        from eo_serving.grpc_door import GrpcDoor, open_door
        from eo_serving.grpc_guard import CallGuard

        rpc = GrpcDoor(name, keeper, front, section.limits)
        guard = CallGuard(tokens.endpoint, section.limits, front.count)
        door = await open_door(rpc, grpc_address, section.limits, guard)
        log.info("V2 over gRPC listens on %s", grpc_address)
    ended: list[str] = []
    supervision = asyncio.create_task(_supervise(backend, keeper))
    following = asyncio.create_task(keeper.follow(section.follow_seconds))

    def end(name: str) -> None:
        server.force_exit = bool(ended)  # a second signal does not wait for requests
        ended.append(name)
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, number.name)
    supervision.add_done_callback(lambda _: end("MLServer"))
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("the front of '%s' listens on %s", name, address)
    try:
        await server.serve(sockets=[listener])
    finally:
        if door is not None:
            await door.stop(_GRACE)
        await front.close()
        if supervision.done():
            await backend.stop()
            supervision.result()
        for task in (following, supervision):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await backend.stop()
    log.info("ended by %s", ended[0] if ended else "uvicorn")
    return {"endpoint": f"{address}/invocations", "ended": ended[0] if ended else ""}


async def _supervise(backend: Backend, keeper: Keeper) -> None:
    """Keep MLServer running; returns never.

    Raises:
        TerraloopError: If it ends again and again.
    """
    short = 0
    while True:
        began = time.monotonic()
        await asyncio.gather(backend.start(), keeper.prefetch())
        await keeper.resume()
        code = await backend.wait()
        short = short + 1 if time.monotonic() - began < _SHORT else 0
        log.error("MLServer ended with %d; requests are answered 503 until it is back", code)
        if short >= _RESTARTS:
            raise TerraloopError(f"MLServer ended {short} times in a row", fix="See its log above")


def _listen(host: str, port: int, flag: str) -> socket.socket:
    """A socket that listens; taken ports are found before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, since asyncio turns Nagle's algorithm off (44 ms per answer) only for what says so.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:  # the latter of numbers that are no port
        listener.close()
        why = error.strerror if isinstance(error, OSError) else "it is no number from 0 to 65535"
        raise UsageError(
            f"port {port} on {host} cannot be used ({why})", where=flag, fix="Choose another or end its user"
        ) from error
    return listener
