"""The V2 protocol over gRPC: a door of its own, off unless `--grpc-port` opens it.

Inference, metadata and the health calls; everything else of the protocol is UNIMPLEMENTED, loading and unloading
first of all. A tensor goes on as an npy file to the route that HTTP clients use: same places, same limits, same answer.
"""

from __future__ import annotations

import asyncio
import io
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc import dataplane_pb2_grpc as service
from numpy.typing import NDArray

from eo_data.errors import UsageError
from eo_serving.declaration import MASK, PROBABILITY, declared
from eo_serving.grpc_guard import CallGuard, PassedOn
from eo_serving.grpc_tensors import read_tensor, write_response
from eo_serving.media import NPY
from eo_serving.problem import NoModel, NoSuchRoute, Problem
from eo_serving.raster_answers import npy_file

if TYPE_CHECKING:
    from eo_serving.configuration import Limits
    from eo_serving.front import Front
    from eo_serving.keeper import Keeper

_TRIES: Final = 3
"""How often both outputs are asked for where they came from two versions."""
_IDLE_MS: Final = 300_000
"""After which a connection without a call is closed."""
_AGE_MS: Final = 3_600_000
"""After which a connection takes no more calls and clients make another; answers that nobody reads end with it."""
_PING_MS: Final = 60_000
_PONG_MS: Final = 20_000
"""How often a peer that is silent within a call is asked whether it is there, and how long it has for saying so."""
_ACCEPT: Final = {MASK: NPY, PROBABILITY: f"{NPY}; band=probability"}


class GrpcDoor(service.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The calls that are answered.

    Args:
        name: The served model's name.
        keeper: Which version is served.
        front: Where inference goes on.
        limits: What one request may cost.
    """

    def __init__(self, name: str, keeper: Keeper, front: Front, limits: Limits) -> None:
        self._name = name
        self._keeper = keeper
        self._front = front
        self._seconds = limits.request_seconds

    async def ServerLive(self, request: Any, context: Any) -> Any:
        """Whether this process lives."""
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        """Whether a model answers."""
        return messages.ServerReadyResponse(ready=await self._front.answers())

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Whether this model answers."""
        return messages.ModelReadyResponse(ready=request.name == self._name and await self._front.answers())

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """The tensors that the model reads and gives."""
        self._check_name(request.name, request.version)
        files, current = self._keeper.files, self._keeper.current
        if files is None or current is None:
            raise NoModel("no model is loaded", fix="Deploy one with `eo-serving deploy`, or try again later")
        said = declared(files.description, current.version)
        tensor = messages.ModelMetadataResponse.TensorMetadata
        return messages.ModelMetadataResponse(
            name=self._name,
            versions=said["versions"],
            platform=said["platform"],
            inputs=[tensor(**one) for one in said["inputs"]],
            outputs=[tensor(**one) for one in said["outputs"]],
        )

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """One tensor `[N, bands, H, W]` in; `mask`, `probability`, or both out."""
        end = time.monotonic() + self._seconds
        self._check_name(request.model_name, request.model_version)
        wanted = [output.name for output in request.outputs] or [MASK]
        if not set(_ACCEPT).issuperset(wanted):
            raise UsageError("an unknown output is asked for", where="outputs", fix=f"Known: {', '.join(_ACCEPT)}")
        body = await asyncio.to_thread(lambda: npy_file(read_tensor(request)))
        for _ in range(_TRIES):
            answers, who = await self._answers(body, wanted, end)
            if len(who) == 1:
                break
        else:
            raise NoModel("versions change while they are asked", fix="Try again in a moment")
        (said,) = map(dict, who)
        await context.send_initial_metadata(tuple(said.items()))
        return write_response(request, said.get("terraloop-model", ""), [(name, answers[name]) for name in wanted])

    async def _answers(
        self, body: bytes, wanted: list[str], end: float
    ) -> tuple[dict[str, NDArray[Any]], set[tuple[tuple[str, str], ...]]]:
        """Each output, and who gave them: one version, unless another came into service in between."""
        answers: dict[str, NDArray[Any]] = {}
        who: set[tuple[tuple[str, str], ...]] = set()
        for name in dict.fromkeys(wanted):
            response = await self._front.ask(body, NPY, _ACCEPT[name], end - time.monotonic())
            if response.status_code != 200:
                raise PassedOn(Problem.from_body(response.status_code, bytes(response.body)))
            values = np.lib.format.read_array(io.BytesIO(response.body), allow_pickle=False)
            answers[name] = np.nan_to_num(values) if name == PROBABILITY else values
            who.add(tuple((key, value) for key, value in response.headers.items() if key.startswith("terraloop-")))
        return answers, who

    def _check_name(self, name: str, version: str) -> None:
        if name != self._name:
            raise NoSuchRoute("there is no such model here", where="model_name", fix=f"This one is {self._name}")
        current = self._keeper.current
        if version and current is not None and version != str(current.version):
            raise NoSuchRoute(
                "this version does not answer", where="model_version", fix=f"Leave it out, or ask for {current.version}"
            )


async def open_door(door: GrpcDoor, address: str, limits: Limits, guard: CallGuard) -> grpc.aio.Server:
    """Start to answer; messages are no longer than a body may be.

    Args:
        door: The calls.
        address: `host:port`.
        limits: What one request may cost.
        guard: What every call passes.
    """
    handshake, grace = map(_milliseconds, (limits.body_seconds, limits.body_seconds + limits.request_seconds))
    options = [
        ("grpc.max_receive_message_length", limits.max_body_bytes), ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0), ("grpc.server_handshake_timeout_ms", handshake),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.max_connection_age_ms", _AGE_MS), ("grpc.max_connection_age_grace_ms", grace),
        ("grpc.keepalive_time_ms", _PING_MS), ("grpc.keepalive_timeout_ms", _PONG_MS),
    ]  # fmt: skip
    places = limits.concurrency + limits.waiting
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=places, interceptors=[guard])
    service.add_GRPCInferenceServiceServicer_to_server(door, server)
    server.add_insecure_port(address)
    await server.start()
    return server


def _milliseconds(seconds: float) -> int:
    """As gRPC takes them: a whole number above 0, of 32 bits."""
    return max(1, min(int(seconds * 1000), 2**31 - 1))
