"""What gRPC calls must pass, and what they are answered where the front fails them; no MLServer is needed for it."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
import numpy as np
import pytest
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc import dataplane_pb2_grpc as service
from starlette.responses import Response

from eo_serving.backend import free_port
from eo_serving.configuration import Limits
from eo_serving.grpc_door import GrpcDoor, open_door
from eo_serving.grpc_guard import CallGuard
from eo_serving.problem import OutOfTime

TOKEN = "token-of-the-guard"
LIMITS = Limits(body_seconds=0.5, request_seconds=1.0, max_body_bytes=100_000)
PATH = "/inference.GRPCInferenceService/ModelInfer"


class Front:
    """Answers as it is told; keeps what was asked and counted."""

    def __init__(self, digests: Iterable[str] = (), error: Exception | None = None, seconds: float = 0.0) -> None:
        self._digests = iter(digests)
        self._error = error
        self._seconds = seconds
        self.asked: list[float] = []
        self.counted: list[tuple[str, str]] = []

    async def ask(self, body: bytes, content_type: str, accept: str, seconds: float) -> Response:
        self.asked.append(seconds)
        await asyncio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        stream = io.BytesIO()
        shape, dtype = ((1, 2, 4, 4), np.float32) if "probability" in accept else ((1, 4, 4), np.uint8)
        np.save(stream, np.zeros(shape, dtype))
        digest = next(self._digests)
        return Response(stream.getvalue(), headers={"Terraloop-Model": "water/2", "Terraloop-Digest": digest})

    async def answers(self) -> bool:
        if self._error is not None:
            raise self._error
        return True

    def count(self, route: str, status: str, seconds: float) -> None:
        self.counted.append((route, status))


class Keeper:
    """No version is known."""

    files = None
    current = None


def talk(front: Any, say: Callable[[Any], Awaitable[Any]], token: str | None = TOKEN) -> Any:
    """Say something to a door before this front."""

    async def scenario() -> Any:
        address = f"127.0.0.1:{free_port()}"
        door = GrpcDoor("water", Keeper(), front, LIMITS)  # type: ignore[arg-type]
        server = await open_door(door, address, LIMITS, CallGuard(token, LIMITS, front.count))
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]
        try:
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                return await say(channel)
        finally:
            await server.stop(None)

    return asyncio.run(scenario())


def message(*outputs: str) -> Any:
    tensor = messages.ModelInferRequest.InferInputTensor(name="x", datatype="UINT8", shape=(1, 6, 4, 4))
    wanted = [messages.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs]
    return messages.ModelInferRequest(
        model_name="water", inputs=[tensor], outputs=wanted, raw_input_contents=[bytes(6 * 16)]
    )


def bearer(token: str = TOKEN) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def refused(call: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, caught.value.details() or ""


def infer(front: Front, *outputs: str) -> tuple[str, str]:
    """Code and words of a call that is refused."""

    async def say(channel: Any) -> Any:
        stub = service.GRPCInferenceServiceStub(channel)
        return await refused(stub.ModelInfer(message(*outputs), metadata=bearer(), timeout=20))

    found: tuple[str, str] = talk(front, say)
    return found


def test_both_outputs_come_from_one_version() -> None:
    front = Front(["old", "new", "new", "new"])

    async def say(channel: Any) -> tuple[list[str], dict[str, str]]:
        stub = service.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer(message("mask", "probability"), metadata=bearer(), timeout=20)
        said = dict(await call.initial_metadata())
        return [output.name for output in (await call).outputs], said

    names, said = talk(front, say)
    assert (names, said["terraloop-digest"], len(front.asked)) == (["mask", "probability"], "new", 4)
    assert front.counted == [("grpc ModelInfer", "OK")]


def test_versions_that_change_all_the_time() -> None:
    front = Front(map(str, range(100)))
    code, said = infer(front, "mask", "probability")
    assert (code, len(front.asked)) == ("UNAVAILABLE", 6)
    assert "versions change" in said


def test_what_is_left_of_the_time_goes_on() -> None:
    front = Front(["a"] * 2, seconds=0.3)

    async def say(channel: Any) -> Any:
        stub = service.GRPCInferenceServiceStub(channel)
        return await stub.ModelInfer(message("mask", "probability"), metadata=bearer(), timeout=20)

    talk(front, say)
    first, second = front.asked
    assert LIMITS.request_seconds >= first > second + 0.25


def test_an_answer_that_takes_too_long() -> None:
    front = Front(["a"], seconds=30)
    assert infer(front) == ("DEADLINE_EXCEEDED", "the answer was not ready in 1 s. Send a smaller raster")
    assert front.counted == [("grpc ModelInfer", "DEADLINE_EXCEEDED")]


def test_failures_say_nothing_of_themselves(caplog: pytest.LogCaptureFixture) -> None:
    front = Front(error=RuntimeError("/secret/path"))
    with caplog.at_level(logging.ERROR, "eo_serving.grpc_guard"):
        code, said = infer(front)
    assert code == "INTERNAL"
    assert "secret" not in said
    assert "/secret/path" in caplog.text
    assert front.counted == [("grpc ModelInfer", "INTERNAL")]

    async def say(channel: Any) -> Any:
        return await refused(service.GRPCInferenceServiceStub(channel).ServerReady(messages.ServerReadyRequest()))

    code, said = talk(front, say)
    assert code == "INTERNAL"
    assert "secret" not in said


@pytest.mark.parametrize("token", ["wrong", TOKEN + "x", ""])
def test_no_message_of_a_stranger_is_parsed(token: str) -> None:
    front = Front(["a"])

    async def say(channel: Any) -> Any:
        return await refused(channel.unary_unary(PATH)(b"\xff\xff", metadata=bearer(token), timeout=20))

    assert talk(front, say)[0] == "UNAUTHENTICATED"
    assert (front.asked, front.counted) == ([], [("grpc ModelInfer", "UNAUTHENTICATED")])


def test_health_needs_no_token() -> None:
    front = Front()

    async def say(channel: Any) -> tuple[bool, bool]:
        stub = service.GRPCInferenceServiceStub(channel)
        live = await stub.ServerLive(messages.ServerLiveRequest())
        return live.live, (await stub.ServerReady(messages.ServerReadyRequest())).ready

    assert talk(front, say) == (True, True)
    assert front.counted == [("grpc ServerLive", "OK"), ("grpc ServerReady", "OK")]


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b""])
def test_bytes_that_are_no_message(content: bytes) -> None:
    front = Front(["a"])

    async def say(channel: Any) -> Any:
        return await refused(channel.unary_unary(PATH)(content, metadata=bearer(), timeout=20))

    code, said = talk(front, say)
    assert code == ("INVALID_ARGUMENT" if content else "NOT_FOUND")  # no bytes are a message without a name
    assert "DecodeError" not in said


def test_a_message_that_does_not_come() -> None:
    front = Front(["a"])

    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(20)
        yield b""

    async def say(channel: Any) -> Any:
        return await refused(channel.stream_unary(PATH)(never(), metadata=bearer(), timeout=20))

    assert talk(front, say) == ("DEADLINE_EXCEEDED", "the message did not arrive in 0.5 s. Send it faster")


def test_a_message_over_the_limit() -> None:
    front = Front(["a"])

    async def say(channel: Any) -> Any:
        return await refused(channel.unary_unary(PATH)(bytes(100_001), metadata=bearer(), timeout=20))

    assert talk(front, say)[0] == "RESOURCE_EXHAUSTED"
    assert front.asked == []
    assert front.counted == [("grpc ModelInfer", "RESOURCE_EXHAUSTED")]


def test_calls_that_are_not_answered_are_counted_as_one() -> None:
    front = Front()

    async def say(channel: Any) -> list[str]:
        names = ("RepositoryModelLoad", "ServerMetadata", "Junk" * 50)
        calls = (channel.unary_unary(f"/inference.GRPCInferenceService/{name}")(b"", timeout=20) for name in names)
        return [(await refused(call))[0] for call in calls]

    assert talk(front, say) == ["UNIMPLEMENTED"] * 3
    assert front.counted == [("grpc other", "UNIMPLEMENTED")] * 3


def test_who_leaves_is_not_counted_as_answered() -> None:
    front = Front(["a"], seconds=0.8)

    async def say(channel: Any) -> None:
        call = service.GRPCInferenceServiceStub(channel).ModelInfer(message(), metadata=bearer(), timeout=20)
        while not front.asked:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.sleep(0.3)

    talk(front, say)
    assert front.counted == [("grpc ModelInfer", "CANCELLED")]


def test_not_ready_as_readyz(water: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps `/readyz` from saying 200, a time that is over among it."""
    from eo_serving.forwarding import Forwarding
    from eo_serving.front import Front as RealFront
    from eo_serving.tokens import Tokens

    async def late(*_: Any) -> Response:
        raise OutOfTime("no answer came")

    monkeypatch.setattr(Forwarding, "forward", late)
    front = RealFront(water, Keeper(), None, Tokens())  # type: ignore[arg-type]

    async def say(channel: Any) -> Any:
        return (await service.GRPCInferenceServiceStub(channel).ServerReady(messages.ServerReadyRequest())).ready

    assert not talk(front, say)
