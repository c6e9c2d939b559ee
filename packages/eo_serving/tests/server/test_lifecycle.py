"""Start, swap of versions under load, restart, end: of the server and of what it started."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_serving.deploy import deploy
from eo_serving.invocation import Invocation, answer
from eo_serving.service import open_service

TIFF = {"Content-Type": "image/tiff"}


@pytest.fixture(scope="module")
def swapped(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server whose version these tests change."""
    server = start_server(tmp_path_factory.mktemp("swapped") / "state")
    server.await_status("/readyz", 200)
    yield server
    assert server.stop() == 0


@pytest.fixture
def deployer(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of `eo-serving deploy`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking)
    monkeypatch.setenv("TERRALOOP_DEPLOY_TOKEN", "deploy-token-of-the-tests")


def lives(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def await_end(pid: int) -> None:
    end = time.monotonic() + 60
    while lives(pid):
        assert time.monotonic() < end, f"process {pid} stays behind"
        time.sleep(0.1)


def ask(server: Any, body: bytes) -> tuple[str, bytes]:
    with server.client() as client:
        response = client.post("/invocations", content=body, headers=TIFF)
    assert response.status_code == 200, response.text
    return response.headers["Terraloop-Model"], response.content


def last_request_while_it_ends(server: Any, body: bytes) -> bytes:
    """The answer to a request of which half was sent before the server was told to end."""
    address = urlsplit(server.url)
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/tiff\r\nContent-Length: {len(body)}"
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body[:1000])
        time.sleep(0.5)  # it must have arrived: what has not begun need not be answered
        server.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        while "Shutting down" not in server.log.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        connection.sendall(body[1000:])
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


class TestReload:
    def test_needs_its_token(self, server: Any, is_problem: Any) -> None:
        is_problem(server.reload(token="wrong"), 401)
        with server.client() as client:
            missing = client.post("/-/reload", json={})
            is_problem(missing, 401)
            assert missing.headers["WWW-Authenticate"] == "Bearer"

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"junk", 400),
            (b"[]", 400),
            (b'{"model": 3}', 400),
            (b'{"other": 1}', 400),
            (b'{"model": "water/1"}', 400),
            (b'{"model": "models:/other/1"}', 400),
            (b'{"model": "models:/water/99"}', 422),
            (b'{"model": "models:/water/5"}', 422),
            (bytes(10_000), 413),
        ],
    )
    def test_refuses_what_is_no_version(self, server: Any, is_problem: Any, body: bytes, status: int) -> None:
        with server.client(headers={"Authorization": "Bearer deploy-token-of-the-tests"}) as client:
            is_problem(client.post("/-/reload", content=body), status)
        assert server.await_status("/readyz", 200).json()["model"] == "water/2"

    def test_a_failed_self_test_leaves_the_version_before(self, server: Any, is_problem: Any, tiff_chip: bytes) -> None:
        before = ask(server, tiff_chip)
        for _ in range(3):
            problem = is_problem(server.reload("models:/water/4"), 422)
            assert "golden chip" in problem["detail"]
            assert ask(server, tiff_chip) == before
        assert before[0] == "water/2"

    def test_swaps_without_a_failed_request(
        self, swapped: Any, tiff_chip: bytes, registry: Any, water: UseCase
    ) -> None:
        """Clients ask without pause while versions change; each answer is whole, and of one version."""
        versions = {f"water/{n}": open_service(registry.versions[n], water) for n in (1, 2, 3)}
        whole = {
            label: answer(Invocation("image/tiff", None, "", tiff_chip), service).body
            for label, service in versions.items()
        }
        assert len(set(whole.values())) == 3
        done, seen, faults = threading.Event(), set[str](), list[Any]()

        def client_loop() -> None:
            with swapped.client() as client:
                while not done.is_set():
                    try:
                        response = client.post("/invocations", content=tiff_chip, headers=TIFF)
                        label = response.headers.get("Terraloop-Model", "")
                        if response.status_code != 200 or whole.get(label) != response.content:
                            faults.append((response.status_code, label, response.text[:300]))
                        seen.add(label)
                    except Exception as error:  # whatever it is, it is a failed request
                        faults.append(error)

        clients = [threading.Thread(target=client_loop) for _ in range(2)]
        for thread in clients:
            thread.start()
        try:
            for round_number in range(8):
                wanted = f"models:/water/{1 + round_number % 3}"
                response = swapped.reload(wanted)
                assert (response.status_code, response.json()["uri"]) == (200, wanted)
                assert ask(swapped, tiff_chip)[0] == response.json()["model"]
        finally:
            done.set()
            for thread in clients:
                thread.join()
        assert faults == []
        assert seen == set(whole)


class TestDeploy:
    def test_proves_that_the_version_answers(
        self, swapped: Any, deployer: None, water: UseCase, registry: Any, tiff_chip: bytes
    ) -> None:
        result = deploy(water, registry.store, swapped.url, "models:/water/3")
        assert result == {
            "endpoint": f"{swapped.url}/invocations",
            "model": "water/3",
            "version": 3,
            "digest": registry.versions[3].digest,
            "rolled_back": False,
        }
        assert ask(swapped, tiff_chip)[0] == "water/3"
        with pytest.raises(DataRefused, match="golden chip"):
            deploy(water, registry.store, swapped.url, "models:/water/4")
        assert ask(swapped, tiff_chip)[0] == "water/3"
        assert deploy(water, registry.store, f"{swapped.url}/invocations", None)["model"] == "water/2"
        assert ask(swapped, tiff_chip)[0] == "water/2"

    def test_an_endpoint_out_of_reach_is_temporary(self, deployer: None, water: UseCase, registry: Any) -> None:
        with pytest.raises(TemporaryFailure, match="does not answer"):
            deploy(water, registry.store, "http://127.0.0.1:9", None)

    def test_needs_the_token(
        self, server: Any, deployer: None, water: UseCase, registry: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERRALOOP_DEPLOY_TOKEN", "wrong")
        with pytest.raises(UsageError, match="token"):
            deploy(water, registry.store, server.url, None)
        monkeypatch.delenv("TERRALOOP_DEPLOY_TOKEN")
        with pytest.raises(UsageError, match="no token"):
            deploy(water, registry.store, server.url, None)


def test_deploy_with_another_token_for_requests_changes_nothing(
    start_server: Any, deployer: None, water: UseCase, registry: Any, tmp_path: Path
) -> None:
    """As where the server made its token itself: a good version is not put in and rolled back."""
    server = start_server(tmp_path / "state", options=())
    before = server.await_status("/readyz", 200).json()
    with pytest.raises(UsageError, match="asks requests for a token") as refusal:
        deploy(water, registry.store, server.url, "models:/water/3")
    assert refusal.value.where == "TERRALOOP_ENDPOINT_TOKEN"
    assert server.await_status("/readyz", 200).json() == before
    assert "water/3 answers now" not in server.log.read_text()
    server.stop()


def test_before_the_first_promotion(
    start_server: Any, is_problem: Any, tmp_path: Path, tiff_chip: bytes, registry: Any
) -> None:
    """Alive, not ready, 503 for every request, until a version is deployed; the end takes MLServer along."""
    server = start_server(tmp_path / "state", store=Store(str(tmp_path / "empty")).uri)
    server.await_status("/healthz", 200)
    with server.client() as client:
        for path in ("/readyz", "/v2/health/ready", "/v2/models/water/ready", "/v2/models/water"):
            is_problem(client.get(path), 503)
        refused = client.post("/invocations", content=tiff_chip, headers=TIFF)
        assert "deploy" in is_problem(refused, 503)["fix"]
        assert refused.headers["Retry-After"]
        assert "No model is loaded" in client.get("/").text
    end = time.monotonic() + 200
    while (deployed := server.reload("models:/water/1")).status_code != 200:
        is_problem(deployed, 503)  # MLServer is not up yet
        assert time.monotonic() < end
        time.sleep(0.5)
    assert ask(server, tiff_chip)[0] == "water/1"
    backend = server.backend_pid()
    assert server.stop(signal.SIGINT) == 0
    assert not lives(backend)
    result = json.loads(server.process.stdout.read().splitlines()[-1])
    assert result == {"endpoint": f"{server.url}/invocations", "ended": "SIGINT"}


def test_a_dead_mlserver_is_started_again(
    swapped: Any, is_problem: Any, tiff_chip: bytes, registry: Any, tmp_path: Path
) -> None:
    first = swapped.backend_pid()
    before = ask(swapped, tiff_chip)
    os.kill(first, signal.SIGKILL)
    is_problem(swapped.await_status("/readyz", 503), 503)
    swapped.await_status("/readyz", 200)
    assert swapped.backend_pid() != first
    assert ask(swapped, tiff_chip) == before


def test_what_was_deployed_stays_through_restarts(start_server: Any, tmp_path: Path, tiff_chip: bytes) -> None:
    """Also where the registry is out of reach; and a front that is killed leaves no MLServer behind."""
    state = tmp_path / "state"
    first = start_server(state)
    first.await_status("/readyz", 200)
    assert first.reload("models:/water/3").status_code == 200
    before = ask(first, tiff_chip)
    assert before[0] == "water/3"
    assert last_request_while_it_ends(first, tiff_chip).endswith(before[1])
    assert first.stop() == 0
    again = start_server(state, tracking="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    again.await_status("/readyz", 200)
    assert ask(again, tiff_chip) == before
    backend = again.backend_pid()
    again.stop(signal.SIGKILL)
    await_end(backend)


def test_a_port_in_use_is_one_clear_line(server: Any, start_server: Any, tmp_path: Path) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    second = start_server(tmp_path / "state", port=port)
    assert second.process.wait(timeout=120) == 2
    lines = [line for line in second.log.read_text().splitlines() if line.strip()]
    assert len(lines) == 1
    assert f"--port: port {port} on 127.0.0.1 cannot be used" in lines[0]
    assert not (tmp_path / "state" / "settings.json").exists()


SECRET = "token-of-the-endpoint"


def test_an_endpoint_token_is_asked_for(start_server: Any, is_problem: Any, tmp_path: Path, tiff_chip: bytes) -> None:
    server = start_server(tmp_path / "state", TERRALOOP_ENDPOINT_TOKEN=SECRET, TERRALOOP_DEPLOY_TOKEN="")
    server.await_status("/readyz", 200)
    with server.client() as client:
        for token in (None, "Bearer wrong", SECRET, f"Bearer {SECRET}\u00e9".encode("latin-1")):
            headers = {**TIFF, **({"Authorization": token} if token else {})}
            is_problem(client.post("/invocations", content=tiff_chip, headers=headers), 401)
        is_problem(client.post("/v2/models/water/infer", json={}), 401)
        given = client.post("/invocations", content=tiff_chip, headers={**TIFF, "Authorization": f"Bearer {SECRET}"})
        assert given.status_code == 200
        is_problem(server.reload(token="any"), 404)  # without a deploy token the route is not there
    environment = Path(f"/proc/{server.backend_pid()}/environ")
    if environment.exists():
        held = environment.read_bytes()
        assert b"PATH=" in held
        assert SECRET.encode() not in held
        assert b"MLFLOW_TRACKING_URI" not in held
    server.stop()


def test_without_a_word_a_token_is_made_and_asked_for(
    start_server: Any, is_problem: Any, tmp_path: Path, tiff_chip: bytes
) -> None:
    server = start_server(tmp_path / "state", options=())
    server.await_status("/readyz", 200)
    file = server.state / "endpoint-token"
    token = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(token) >= 32
    with server.client() as client:
        is_problem(client.post("/invocations", content=tiff_chip, headers=TIFF), 401)
        given = {**TIFF, "Authorization": f"Bearer {token}"}
        assert client.post("/invocations", content=tiff_chip, headers=given).status_code == 200
    server.stop()
    assert token not in server.log.read_text()
    again = start_server(tmp_path / "state", options=())
    again.await_status("/readyz", 200)
    with again.client() as client:
        assert client.post("/invocations", content=tiff_chip, headers=given).status_code == 200
    again.stop()


def test_a_state_folder_belongs_to_one_server(start_server: Any, swapped: Any) -> None:
    before = {path.name: path.read_bytes() for path in swapped.state.iterdir() if path.is_file()}
    second = start_server(swapped.state)
    assert second.process.wait(timeout=60) == 2
    told = second.log.read_text()
    assert f"another server uses {swapped.state}" in told
    assert "Traceback" not in told
    assert {path.name: path.read_bytes() for path in swapped.state.iterdir() if path.is_file()} == before


def test_a_port_or_a_state_that_is_none_is_refused(start_server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for state, port, said in (
        (tmp_path / "state", 99999, "port 99999"),
        (tmp_path / "file", None, "Name a folder that can be written"),
    ):
        wrong = start_server(state, port=port)
        assert wrong.process.wait(timeout=60) == 2
        told = wrong.log.read_text()
        assert said in told
        assert "Traceback" not in told
