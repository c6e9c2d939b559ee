"""The V2 protocol over gRPC: a door of its own, off unless `--grpc-port` opens it.

Inference, metadata and the health calls; everything else of the protocol is UNIMPLEMENTED, loading and unloading
first of all. A tensor goes on as an npy file to the route that HTTP clients use: same places, same limits, same answer.
"""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc import dataplane_pb2_grpc as service
from numpy.typing import NDArray

from eo_data.errors import DataRefused, TerraloopError, UsageError
from eo_serving.declaration import MASK, PROBABILITY, declared
from eo_serving.media import NPY
from eo_serving.problem import NoModel, NoSuchRoute, Problem
from eo_serving.raster_answers import npy_file
from eo_serving.tensors import V2_DTYPES, check_dimensions
from eo_serving.tokens import check_token

if TYPE_CHECKING:
    from eo_serving.configuration import Limits
    from eo_serving.front import Front
    from eo_serving.keeper import Keeper

log = logging.getLogger(__name__)

CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The one table from HTTP status to gRPC code; anything else is INTERNAL."""

_CONTENTS: Final = {
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
"""Where numbers of a type stand that are not sent raw; half floats come raw only."""
_TRIES: Final = 3
"""How often both outputs are asked for where they came from two versions."""
_IDLE_MS: Final = 300_000
"""After which a connection without a call is closed."""
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
        self._seconds = 2 * limits.request_seconds  # two outputs are two requests, each within its own time

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
        return await self._guarded(context, "ModelMetadata", self._metadata(request))

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """One tensor `[N, bands, H, W]` in; `mask`, `probability`, or both out."""
        return await self._guarded(context, "ModelInfer", self._infer(request, context))

    async def _guarded(self, context: Any, method: str, work: Awaitable[Any]) -> Any:
        """The answer, or the gRPC status of what went wrong; either is counted."""
        began, code, said = time.perf_counter(), grpc.StatusCode.OK, ""
        try:
            async with asyncio.timeout(self._seconds):
                return await work
        except TerraloopError as error:
            problem = error.problem if isinstance(error, _Refused) else Problem.of(error)
            code, said = CODES.get(problem.status, grpc.StatusCode.INTERNAL), str(error)
        except TimeoutError:
            code, said = grpc.StatusCode.DEADLINE_EXCEEDED, f"the answer was not ready in {self._seconds:g} s"
        except Exception:
            log.exception("unexpected failure")
            code, said = grpc.StatusCode.INTERNAL, "something is wrong here; the server's log says what"
        finally:
            self._front.count(f"grpc {method}", code.name, time.perf_counter() - began)
        await context.abort(code, said)

    async def _metadata(self, request: Any) -> Any:
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

    async def _infer(self, request: Any, context: Any) -> Any:
        self._check_name(request.model_name, request.model_version)
        wanted = [output.name for output in request.outputs] or [MASK]
        if not set(_ACCEPT).issuperset(wanted):
            raise UsageError("an unknown output is asked for", where="outputs", fix=f"Known: {', '.join(_ACCEPT)}")
        body = npy_file(read_tensor(request))
        for _ in range(_TRIES):
            answers, who = await self._answers(body, wanted)
            if len(who) == 1:
                break
        else:
            raise NoModel("versions change while they are asked", fix="Try again in a moment")
        (said,) = map(dict, who)
        await context.send_initial_metadata(tuple(said.items()))
        return _response(request, said.get("terraloop-model", ""), [(name, answers[name]) for name in wanted])

    async def _answers(
        self, body: bytes, wanted: list[str]
    ) -> tuple[dict[str, NDArray[Any]], set[tuple[tuple[str, str], ...]]]:
        """Each output, and who gave them: one version, unless another came into service in between."""
        answers: dict[str, NDArray[Any]] = {}
        who: set[tuple[tuple[str, str], ...]] = set()
        for name in dict.fromkeys(wanted):
            response = await self._front.ask(body, NPY, _ACCEPT[name])
            if response.status_code != 200:
                raise _Refused(Problem.from_body(response.status_code, bytes(response.body)))
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


class _Refused(TerraloopError):
    """What the model server refused."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, where=problem.where, fix=problem.fix)
        self.problem = problem


def read_tensor(request: Any) -> NDArray[Any]:
    """The one tensor of a request, raw or typed.

    Raises:
        UsageError: If there is not exactly one.
        DataRefused: If it is of a type that no sensor has, or its values do not fill its shape.
    """
    if len(request.inputs) != 1:
        raise UsageError(
            f"{len(request.inputs)} tensors, one is needed", where="inputs", fix="Send one [N, bands, height, width]"
        )
    (tensor,) = request.inputs
    dtype = V2_DTYPES.get(tensor.datatype)
    if dtype is None:
        raise DataRefused(
            "values of this type are no numbers of a sensor", where="inputs", fix=f"Send one of {', '.join(V2_DTYPES)}"
        )
    shape = tuple(tensor.shape)
    check_dimensions(shape, "inputs")
    size = 1
    for side in shape:
        size *= side
    if request.raw_input_contents:
        raw = request.raw_input_contents[0]
        fits = len(request.raw_input_contents) == 1 and len(raw) == size * np.dtype(dtype).itemsize
        values = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")) if fits else np.empty(0)
    else:
        field = _CONTENTS.get(tensor.datatype)
        values = np.array(getattr(tensor.contents, field) if field else [])
        fits = values.size == size
        if fits and values.size and np.dtype(dtype).kind in "iu":
            bounds = np.iinfo(dtype)
            if values.min() < bounds.min or values.max() > bounds.max:
                raise DataRefused(
                    f"a value is no {tensor.datatype}", where="inputs", fix="Send values of the declared type"
                )
    if not fits or min(shape, default=0) < 1:
        raise DataRefused("the values do not fill the shape", where="inputs", fix="Correct the shape")
    return values.astype(dtype, copy=False).reshape(shape)


def _response(request: Any, model: str, answers: list[tuple[str, NDArray[Any]]]) -> Any:
    """Raw where the request was, typed where it was not."""
    outputs, raw = [], []
    for name, values in answers:
        datatype = "UINT8" if name == MASK else "FP32"
        contents = None
        if request.raw_input_contents:
            raw.append(np.ascontiguousarray(values, dtype=V2_DTYPES[datatype]).tobytes())
        else:
            contents = messages.InferTensorContents(**{_CONTENTS[datatype]: values.ravel().tolist()})
        outputs.append(
            messages.ModelInferResponse.InferOutputTensor(
                name=name, datatype=datatype, shape=values.shape, contents=contents
            )
        )
    return messages.ModelInferResponse(
        model_name=request.model_name,
        model_version=model.rpartition("/")[2],
        id=request.id,
        outputs=outputs,
        raw_output_contents=raw,
    )


class TokenCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls without the token before their message is read.

    Args:
        token: What inference must bear.
        front: What counts refusals.
    """

    def __init__(self, token: str, front: Front) -> None:
        self._token = token
        self._front = front

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """The call's handler, or one that refuses."""
        if not details.method.endswith("/ModelInfer"):
            return await continuation(details)
        given = dict(details.invocation_metadata).get("authorization", "")
        try:
            check_token(given if isinstance(given, str) else "", self._token)
        except TerraloopError as error:
            said = str(error)
        else:
            return await continuation(details)

        async def refuse(messages_to_come: Any, context: Any) -> None:
            self._front.count("grpc ModelInfer", grpc.StatusCode.UNAUTHENTICATED.name, 0.0)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, said)

        # A handler of streams: one of single messages would be called after its message has come.
        return grpc.stream_unary_rpc_method_handler(refuse)


async def open_door(door: GrpcDoor, address: str, limits: Limits, check: TokenCheck | None) -> grpc.aio.Server:
    """Start to answer; messages are no longer than a body may be.

    Args:
        door: The calls.
        address: `host:port`.
        limits: What one request may cost.
        check: Who is let in; None lets everyone in.
    """
    options = [("grpc.max_receive_message_length", limits.max_body_bytes), ("grpc.max_send_message_length", -1),
               ("grpc.so_reuseport", 0), ("grpc.max_connection_idle_ms", _IDLE_MS)]  # fmt: skip
    places = limits.concurrency + limits.waiting
    checks = [] if check is None else [check]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=places, interceptors=checks)
    service.add_GRPCInferenceServiceServicer_to_server(door, server)
    server.add_insecure_port(address)
    await server.start()
    return server
