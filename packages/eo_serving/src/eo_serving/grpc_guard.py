"""What every gRPC call passes: the token before its message, limits of time, plain refusals, and the count."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError

from eo_data.errors import TerraloopError, UsageError
from eo_serving.problem import OutOfTime, Problem, SlowBody, TooLarge
from eo_serving.tokens import check_token

if TYPE_CHECKING:
    from eo_serving.configuration import Limits

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
OPEN: Final = frozenset({"ServerLive", "ServerReady", "ModelReady", "ModelMetadata"})
"""Calls that need no token, as their routes over HTTP."""
ANSWERED: Final = OPEN | {"ModelInfer"}
"""All that is answered; anything else of the protocol is UNIMPLEMENTED."""


class PassedOn(TerraloopError):
    """A refusal of the model server.

    Args:
        problem: What it said.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, where=problem.where, fix=problem.fix)
        self.problem = problem


class CallGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Stands before every call.

    Args:
        token: What calls must bear that are not `OPEN`; None lets everyone in.
        limits: What one request may cost.
        count: Takes route, code and seconds of each call.
    """

    def __init__(self, token: str | None, limits: Limits, count: Callable[[str, str, float], None]) -> None:
        self._token = token
        self._limits = limits
        self._count = count

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """The handler of a call, behind all that it must pass first; None where there is none."""
        method = details.method.rpartition("/")[2]
        if method not in ANSWERED:
            self._count("grpc other", grpc.StatusCode.UNIMPLEMENTED.name, 0.0)
            return None
        handler = await continuation(details)
        if handler is None:  # of another service
            return None
        given = dict(details.invocation_metadata).get("authorization", "")
        token = None if method in OPEN else self._token

        async def guarded(parts: AsyncIterator[bytes], context: Any) -> Any:
            if token is not None:
                check_token(given if isinstance(given, str) else "", token)
            message = await self._received(parts, handler.request_deserializer)
            return await self._in_time(handler.unary_unary(message, context))

        async def counted(parts: AsyncIterator[bytes], context: Any) -> Any:
            began, code, said = time.perf_counter(), grpc.StatusCode.OK, ""
            try:
                return await guarded(parts, context)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED  # the caller has left, or sent more than is taken
                raise
            except Exception as error:
                code, said = _refusal(error)
            finally:
                self._count(f"grpc {method}", code.name, time.perf_counter() - began)
            await context.abort(code, said)

        # A handler of streams: one of single messages would be called only after its message has come.
        return grpc.stream_unary_rpc_method_handler(counted, response_serializer=handler.response_serializer)

    async def _received(self, parts: AsyncIterator[bytes], parse: Callable[[bytes], Any]) -> Any:
        """The one message of a call, parsed."""
        seconds = self._limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                content = await anext(aiter(parts), None)
        except TimeoutError as error:
            raise SlowBody(f"the message did not arrive in {seconds:g} s", fix="Send it faster") from error
        if content is None:  # gRPC itself refuses what is too long; here it looks as if nothing had been sent
            raise TooLarge(
                f"no message, or one longer than {self._limits.max_body_bytes} bytes", fix="Send a smaller one"
            )
        try:
            return parse(content)
        except DecodeError as error:
            raise UsageError("this is no message of the V2 protocol", fix="Use a client of it") from error

    async def _in_time(self, answer: Awaitable[Any]) -> Any:
        seconds = self._limits.request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise OutOfTime(f"the answer was not ready in {seconds:g} s", fix="Send a smaller raster") from error


def _refusal(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Code and words; an error that is not meant for callers is written to the log and says nothing of itself."""
    if not isinstance(error, TerraloopError):
        log.error("unexpected failure of a gRPC call", exc_info=error)
        return grpc.StatusCode.INTERNAL, "something went wrong here; ask who runs this endpoint to look into its log"
    problem = error.problem if isinstance(error, PassedOn) else Problem.of(error)
    return CODES.get(problem.status, grpc.StatusCode.INTERNAL), str(error)
