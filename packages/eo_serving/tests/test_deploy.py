"""`deploy` against an endpoint that does not do what it says: the version before comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_data.errors import TemporaryFailure, TerraloopError, exit_code
from eo_data.usecase import UseCase
from eo_serving.deploy import RolledBack, deploy
from eo_serving.golden import golden_geotiff, is_golden_mask
from eo_serving.invocation import Invocation, answer
from eo_serving.service import open_service


class LyingEndpoint(ThreadingHTTPServer):
    """Says that it reloads, and answers as `behaviour` says.

    Attributes:
        asked: The versions that it was asked to load, `rollback` for the one before.
        statuses: Statuses of its next answers to `/invocations`; then 200.
        before: What `/readyz` says at first; None for 503.
        after: What `/readyz` says once it was asked to load something.
        headers: Headers of its answer to the golden chip.
        body: Its answer to the golden chip.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Any] = []
        self.statuses: list[int] = []
        self.rollback_status = 200
        self.before: dict[str, Any] | None = None
        self.after: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.body = b""


class _Handler(BaseHTTPRequestHandler):
    server: LyingEndpoint

    def do_GET(self) -> None:
        says = self.server.after if self.server.asked else self.server.before
        self._send(200 if says else 503, json.dumps(says or {"detail": "none"}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/-/reload":
            said = json.loads(body)
            self.server.asked.append("rollback" if said.get("rollback") else said.get("model"))
            if said.get("rollback") and self.server.rollback_status != 200:
                self._send(self.server.rollback_status, json.dumps({"status": 422, "detail": "there is none"}).encode())
                return
            self._send(200, json.dumps(self.server.before if said.get("rollback") else self.server.after).encode())
        elif body and self.server.statuses:
            self._send(self.server.statuses.pop(0), b"{}")
        else:
            self._send(200, self.server.body, self.server.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint(registry: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingEndpoint]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking)
    monkeypatch.setenv("TERRALOOP_DEPLOY_TOKEN", "token")
    with LyingEndpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def named(files: Any) -> dict[str, Any]:
    return {"model": files.label, "version": files.version, "uri": files.uri, "digest": files.digest}


@pytest.mark.parametrize("lie", ["readyz", "status", "nonsense", "header", "mask", "none"])
def test_an_endpoint_that_answers_with_something_else(
    endpoint: LyingEndpoint, registry: Any, water: UseCase, lie: str
) -> None:
    one, two = registry.versions[1], registry.versions[2]
    golden = golden_geotiff(two.description)
    answers = {
        files.version: answer(Invocation("image/tiff", None, "", golden), open_service(files, water))
        for files in (one, two)
    }
    endpoint.before = named(one)
    endpoint.after = named(one if lie == "readyz" else two)
    endpoint.headers = dict(answers[1 if lie == "header" else 2].headers)
    endpoint.body = answers[1 if lie == "mask" else 2].body
    if lie == "status":
        endpoint.statuses = [500]
    if lie == "nonsense":
        endpoint.body = b"nonsense"
    address = f"http://127.0.0.1:{endpoint.server_port}"
    if lie == "none":
        assert deploy(water, registry.store, address, two.uri)["rolled_back"] is False
        assert endpoint.asked == [two.uri]
        return
    with pytest.raises(TerraloopError, match="water/1 answers again") as failure:
        deploy(water, registry.store, address, two.uri)
    assert isinstance(failure.value, RolledBack)
    assert exit_code(failure.value) == 1
    assert endpoint.asked == [two.uri, "rollback"]
    assert failure.value.result == {
        "endpoint": f"{address}/invocations",
        "model": "water/1",
        "version": 1,
        "digest": one.digest,
        "rolled_back": True,
    }


def test_where_there_is_no_version_before_the_fault_is_still_told(
    endpoint: LyingEndpoint, registry: Any, water: UseCase
) -> None:
    """As where the endpoint had taken the new champion up by itself, right after its start."""
    endpoint.before = endpoint.after = named(registry.versions[2])
    endpoint.rollback_status = 422
    with pytest.raises(TerraloopError, match=r"does not answer rightly.*there is none") as failure:
        deploy(water, registry.store, f"http://127.0.0.1:{endpoint.server_port}", "models:/water/2")
    assert exit_code(failure.value) == 1


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eo_serving.deploy._PAUSE", 0.01)
    monkeypatch.setattr("eo_serving.deploy._PATIENCE", 1.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("busy", [[429], [503, 504], [408]])
def test_a_busy_endpoint_is_asked_again(
    endpoint: LyingEndpoint, registry: Any, water: UseCase, busy: list[int]
) -> None:
    two = registry.versions[2]
    found = answer(Invocation("image/tiff", None, "", golden_geotiff(two.description)), open_service(two, water))
    endpoint.before = endpoint.after = named(two)
    endpoint.headers, endpoint.body, endpoint.statuses = dict(found.headers), found.body, list(busy)
    said = deploy(water, registry.store, f"http://127.0.0.1:{endpoint.server_port}", two.uri)
    assert said["rolled_back"] is False
    assert endpoint.statuses == []


@pytest.mark.usefixtures("at_once")
def test_an_endpoint_that_stays_busy_says_nothing_of_the_version(
    endpoint: LyingEndpoint, registry: Any, water: UseCase
) -> None:
    one, two = registry.versions[1], registry.versions[2]
    endpoint.before, endpoint.after, endpoint.statuses = named(one), named(two), [429] * 10_000
    with pytest.raises(TemporaryFailure, match=r"could not be tested.*water/1 answers again") as failure:
        deploy(water, registry.store, f"http://127.0.0.1:{endpoint.server_port}", two.uri)
    assert exit_code(failure.value) == 75
    assert endpoint.asked == [two.uri, "rollback"]


@pytest.mark.usefixtures("at_once")
def test_a_busy_endpoint_keeps_the_version_that_it_served_already(
    endpoint: LyingEndpoint, registry: Any, water: UseCase
) -> None:
    two = registry.versions[2]
    endpoint.before = endpoint.after = named(two)
    endpoint.statuses = [503] * 10_000
    with pytest.raises(TemporaryFailure, match="could not be tested"):
        deploy(water, registry.store, f"http://127.0.0.1:{endpoint.server_port}", two.uri)
    assert endpoint.asked == [two.uri]


def test_without_a_version_before_nothing_comes_back(endpoint: LyingEndpoint, registry: Any, water: UseCase) -> None:
    endpoint.after = named(registry.versions[1])
    with pytest.raises(TerraloopError, match="does not answer rightly") as failure:
        deploy(water, registry.store, f"http://127.0.0.1:{endpoint.server_port}", "models:/water/2")
    assert not isinstance(failure.value, RolledBack)
    assert endpoint.asked == ["models:/water/2"]  # and nothing after it


def test_the_golden_chip_is_answered_with_the_recorded_mask(registry: Any, water: UseCase, decode: Any) -> None:
    for number in (1, 2):
        files = registry.versions[number]
        result = answer(
            Invocation("image/tiff", None, "", golden_geotiff(files.description)), open_service(files, water)
        )
        assert is_golden_mask(files.description, result.body)
        assert 255 in np.unique(decode(result.body).pixels)  # where the golden chip has no data
    assert not is_golden_mask(registry.versions[1].description, result.body)


def test_the_command_logs_no_line_for_every_request(registry: Any, endpoint: LyingEndpoint) -> None:
    endpoint.after = named(registry.versions[2])
    command = [str(Path(sys.executable).parent / "eo-serving"), "deploy", "--usecase", "water"]
    command += ["--store", registry.store.uri, "--endpoint", f"http://127.0.0.1:{endpoint.server_port}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (endpoint.asked[0], ended.returncode) == (None, 1), ended.stderr
    assert "HTTP Request" not in ended.stderr
