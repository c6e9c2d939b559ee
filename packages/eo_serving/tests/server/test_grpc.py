"""V2 over gRPC: the masks of HTTP, the same refusals, and nothing of the repository calls."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc import dataplane_pb2_grpc as service

TOKEN = "token-of-the-grpc-door"


@pytest.fixture(scope="module")
def ports(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, int]]:
    from eo_serving.backend import free_port

    port = free_port()
    options = ("--grpc-port", str(port))
    server = start_server(tmp_path_factory.mktemp("grpc") / "state", options=options, TERRALOOP_ENDPOINT_TOKEN=TOKEN)
    server.await_status("/readyz", 200)
    yield server, port
    assert server.stop() == 0


@pytest.fixture
def stub(ports: tuple[Any, int]) -> Iterator[Any]:
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{ports[1]}", options=options) as channel:
        yield service.GRPCInferenceServiceStub(channel)


def request(values: Any, datatype: str, *outputs: str, raw: bool = True, **changes: Any) -> Any:
    tensor = messages.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=values.shape)
    wanted = [messages.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs]
    made = messages.ModelInferRequest(model_name="water", id="7", inputs=[tensor], outputs=wanted)
    if raw:
        made.raw_input_contents.append(np.ascontiguousarray(values).tobytes())
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def infer(stub: Any, message: Any, token: str | None = TOKEN) -> Any:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    return stub.ModelInfer(message, metadata=metadata, timeout=60)


def refusal(stub: Any, message: Any, token: str | None = TOKEN) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        infer(stub, message, token)
    return caught.value.code(), caught.value.details()


def http_mask(ports: tuple[Any, int], chip: Any, probability: bool = False) -> Any:
    outputs = [{"name": "probability" if probability else "mask"}]
    tensor = {"name": "x", "shape": [1, *chip.shape], "datatype": "UINT16", "data": chip.ravel().tolist()}
    with ports[0].client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        response: httpx.Response = client.post(
            "/v2/models/water/infer", json={"inputs": [tensor], "outputs": outputs}, timeout=120
        )
    assert response.status_code == 200
    output = response.json()["outputs"][0]
    return np.array(output["data"]).reshape(output["shape"])


def test_masks_are_those_of_http(ports: tuple[Any, int], stub: Any, chip: Any, registry: Any) -> None:
    small = chip[:, :30, :25]
    answer = infer(stub, request(small[None], "UINT16"))
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("mask", "UINT8", [1, 30, 25])
    mask = np.frombuffer(answer.raw_output_contents[0], np.uint8).reshape(1, 30, 25)
    np.testing.assert_array_equal(mask, http_mask(ports, small))
    assert set(np.unique(mask)) == {0, 1, 255}
    assert (answer.model_name, answer.model_version, answer.id) == ("water", "2", "7")


def test_both_outputs_in_the_order_that_was_asked_for(ports: tuple[Any, int], stub: Any, chip: Any) -> None:
    small = chip[:, :30, :25]
    answer = infer(stub, request(small[None], "UINT16", "probability", "mask"))
    assert [output.name for output in answer.outputs] == ["probability", "mask"]
    probability = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(1, 2, 30, 25)
    np.testing.assert_allclose(probability, http_mask(ports, small, probability=True), atol=1e-6)
    assert not probability[0, :, :9].any()  # no data


@pytest.mark.parametrize(
    ("datatype", "dtype", "field"),
    [
        ("INT16", np.int16, "int_contents"),
        ("INT32", np.int32, "int_contents"),
        ("INT64", np.int64, "int64_contents"),
        ("UINT16", np.uint16, "uint_contents"),
        ("UINT64", np.uint64, "uint64_contents"),
        ("FP32", np.float32, "fp32_contents"),
        ("FP64", np.float64, "fp64_contents"),
    ],
)
def test_raw_and_typed_of_every_type(stub: Any, chip: Any, datatype: str, dtype: Any, field: str) -> None:
    values = chip[None, :, :12, :14].astype(dtype)
    raw = infer(stub, request(values, datatype)).raw_output_contents[0]
    typed = request(values, datatype, raw=False)
    getattr(typed.inputs[0].contents, field).extend(values.ravel().tolist())
    answer = infer(stub, typed)
    assert list(answer.raw_output_contents) == []
    assert bytes(answer.outputs[0].contents.uint_contents) == raw
    assert {0, 1} <= set(raw)


def test_who_answers_is_in_the_metadata(stub: Any, chip: Any, registry: Any) -> None:
    _, call = stub.ModelInfer.with_call(
        request(chip[None, :, :8, :8], "UINT16"), metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=60
    )
    said = dict(call.initial_metadata())
    assert said["terraloop-model"] == "water/2"
    assert said["terraloop-digest"] == registry.versions[2].digest


def test_health_and_metadata_need_no_token(stub: Any) -> None:
    assert stub.ServerLive(messages.ServerLiveRequest(), timeout=10).live
    assert stub.ServerReady(messages.ServerReadyRequest(), timeout=10).ready
    assert stub.ModelReady(messages.ModelReadyRequest(name="water"), timeout=10).ready
    assert not stub.ModelReady(messages.ModelReadyRequest(name="other"), timeout=10).ready
    said = stub.ModelMetadata(messages.ModelMetadataRequest(name="water"), timeout=10)
    assert [list(tensor.shape) for tensor in said.inputs] == [[-1, 6, -1, -1]]
    assert [tensor.name for tensor in said.outputs] == ["mask", "probability"]


@pytest.mark.parametrize("token", [None, "wrong", TOKEN + "x", ""])
def test_the_token_is_asked_for(stub: Any, chip: Any, token: str | None) -> None:
    code, details = refusal(stub, request(chip[None], "UINT16"), token)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert TOKEN not in details


@pytest.mark.parametrize(
    ("values", "datatype", "changes", "code"),
    [
        (np.ones((1, 6, 2, 2), np.uint8), "BYTES", {}, "INVALID_ARGUMENT"),
        (np.ones((1, 6, 2, 2), np.uint8), "junk", {}, "INVALID_ARGUMENT"),
        (np.ones((1, 6, 2, 2), np.uint8), "FP64", {}, "INVALID_ARGUMENT"),
        (np.ones((1, 5, 2, 2), np.uint8), "UINT8", {}, "INVALID_ARGUMENT"),
        (np.ones((6, 2), np.uint8), "UINT8", {}, "INVALID_ARGUMENT"),
        (np.ones((0, 6, 2, 2), np.uint8), "UINT8", {}, "INVALID_ARGUMENT"),
        (np.full((1, 6, 2, 2), np.inf, np.float32), "FP32", {}, "INVALID_ARGUMENT"),
        (np.ones((1, 6, 1001, 1000), np.uint8)[:, :, :500], "UINT8", {"model_name": "other"}, "NOT_FOUND"),
        (np.ones((1, 6, 2, 2), np.uint8), "UINT8", {"model_version": "9"}, "NOT_FOUND"),
        (np.ones((1, 1, 1001, 1000), np.uint8), "UINT8", {}, "RESOURCE_EXHAUSTED"),
        (np.ones((1, 13, 1000, 1000), np.uint8), "UINT8", {}, "RESOURCE_EXHAUSTED"),
    ],
    ids=range(11),
)
def test_what_is_refused(stub: Any, chip: Any, values: Any, datatype: str, changes: Any, code: str) -> None:
    found, details = refusal(stub, request(values, datatype, **changes))
    assert found.name == code
    assert details
    assert "Traceback" not in details
    assert infer(stub, request(chip[None, :, :8, :8], "UINT16")).outputs[0].name == "mask"


def test_other_forms_that_are_refused(stub: Any, chip: Any) -> None:
    good = chip[None, :, :8, :8]
    two = request(good, "UINT16")
    two.inputs.append(two.inputs[0])
    none = messages.ModelInferRequest(model_name="water")
    raws = request(good, "UINT16")
    raws.raw_input_contents.append(b"x")
    empty = request(good, "UINT16", raw=False)
    large = request(np.ones((1, 6, 1, 1)), "UINT8", raw=False)
    large.inputs[0].contents.uint_contents.extend([300] * 6)
    negative = request(good, "UINT16")
    negative.inputs[0].shape[:] = [-1, -13, 8, 8]
    vast = request(good, "UINT16")
    vast.inputs[0].shape[:] = [2**40, 2**40, 2**40, 2**40]
    for message in (two, none, raws, empty, large, negative, vast, request(good, "UINT16", "secrets")):
        assert refusal(stub, message)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_the_repository_is_not_behind_this_door(stub: Any) -> None:
    calls = {
        stub.RepositoryIndex: messages.RepositoryIndexRequest(),
        stub.RepositoryModelLoad: messages.RepositoryModelLoadRequest(model_name="water"),
        stub.RepositoryModelUnload: messages.RepositoryModelUnloadRequest(model_name="water"),
        stub.ServerMetadata: messages.ServerMetadataRequest(),
    }
    for call, message in calls.items():
        with pytest.raises(grpc.RpcError) as caught:
            call(message, metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert stub.ModelReady(messages.ModelReadyRequest(name="water"), timeout=10).ready


def test_bytes_that_are_no_message(ports: tuple[Any, int], stub: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{ports[1]}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for token, code in ((TOKEN, grpc.StatusCode.INVALID_ARGUMENT), ("another", grpc.StatusCode.UNAUTHENTICATED)):
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\xff\xff\xff", metadata=(("authorization", f"Bearer {token}"),), timeout=60)
            assert caught.value.code() is code
    assert stub.ServerLive(messages.ServerLiveRequest()).live


def test_without_the_token_no_message_is_waited_for(ports: tuple[Any, int]) -> None:
    """The refusal comes although nothing of the message was sent."""
    held = threading.Event()

    def never() -> Iterator[bytes]:
        held.wait(60)
        yield b""

    with grpc.insecure_channel(f"127.0.0.1:{ports[1]}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(never(), timeout=30)
        held.set()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_calls_are_counted(ports: tuple[Any, int], stub: Any, chip: Any) -> None:
    def counted(status: str) -> float:
        with ports[0].client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            lines = client.get("/metrics").text.splitlines()
        wanted = f'terraloop_requests_total{{route="grpc ModelInfer",status="{status}"}} '
        return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))

    before = {status: counted(status) for status in ("OK", "UNAUTHENTICATED", "INVALID_ARGUMENT")}
    infer(stub, request(chip[None, :, :20, :20], "UINT16"))
    refusal(stub, request(chip[None, :, :20, :20], "UINT16"), token=None)
    refusal(stub, request(chip[None, :3, :20, :20], "UINT16"))
    assert {status: counted(status) - count for status, count in before.items()} == dict.fromkeys(before, 1.0)


def test_not_ready_while_mlserver_is_away(ports: tuple[Any, int], stub: Any) -> None:
    """As `/readyz`, from the moment on that it ends until it is back."""
    server = ports[0]
    os.kill(server.backend_pid(), signal.SIGKILL)
    server.await_status("/readyz", 503)
    assert not stub.ServerReady(messages.ServerReadyRequest(), timeout=10).ready
    assert not stub.ModelReady(messages.ModelReadyRequest(name="water"), timeout=10).ready
    assert stub.ServerLive(messages.ServerLiveRequest(), timeout=10).live
    server.await_status("/readyz", 200)
    assert stub.ServerReady(messages.ServerReadyRequest(), timeout=10).ready


def test_a_port_in_use(ports: tuple[Any, int], start_server: Any, tmp_path: Path) -> None:
    second = start_server(tmp_path / "state", options=("--open", "--grpc-port", str(ports[1])))
    assert second.process.wait(timeout=120) == 2
    assert "--grpc-port" in second.log.read_text()
