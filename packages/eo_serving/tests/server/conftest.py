"""`eo-serving serve` as a process of its own, on real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

ROOT = Path(__file__).parents[4]
TOKEN = "deploy-token-of-the-tests"
LIMITS = {
    "max_body_bytes": 4 * 2**20,
    "max_json_bytes": 2**20,
    "max_json_lists": 200_000,
    "max_pixels": 1_000_000,
    "max_block_bytes": 8 * 2**20,
    "body_seconds": 3.0,
    "request_seconds": 60.0,
    "concurrency": 2,
    "waiting": 2,
}
START_SECONDS = 240.0


@dataclass
class Server:
    """A running `eo-serving serve`.

    Attributes:
        process: It.
        url: Its address.
        log: The file that takes its stderr.
        state: The folder that it writes.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    state: Path

    def client(self, **options: Any) -> httpx.Client:
        """A client of it; the machine's proxy settings are not for loopback."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=60, **options)

    def reload(self, uri: str | None = None, token: str = TOKEN) -> httpx.Response:
        """Ask for a version."""
        with self.client() as client:
            return client.post(
                "/-/reload", json={"model": uri} if uri else {}, headers={"Authorization": f"Bearer {token}"}
            )

    def roll_back(self) -> httpx.Response:
        """Ask for the version before."""
        with self.client() as client:
            return client.post("/-/reload", json={"rollback": True}, headers={"Authorization": f"Bearer {TOKEN}"})

    def await_status(self, path: str, status: int) -> httpx.Response:
        """Wait until a path answers with a status; the server must live on meanwhile."""
        end = time.monotonic() + START_SECONDS
        with self.client() as client:
            while time.monotonic() < end:
                with contextlib.suppress(httpx.TransportError):
                    response = client.get(path)
                    if response.status_code == status:
                        return response
                if self.process.poll() is not None:
                    break
                time.sleep(0.2)
        raise AssertionError(f"{path} did not become {status}:\n{self.log.read_text()[-4000:]}")

    def backend_pid(self) -> int:
        """The newest MLServer child."""
        return int(re.findall(r"MLServer starts as process (\d+)", self.log.read_text())[-1])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=90)


StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory, registry: Any) -> Iterator[StartServer]:
    """Start servers of the use case `water` with small limits; all end with the session."""
    started: list[Server] = []
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())

    def start(
        state: Path,
        store: str | None = None,
        port: int | None = None,
        tracking: str | None = None,
        options: tuple[str, ...] = ("--open",),
        serve: dict[str, Any] | None = None,
        **variables: str,
    ) -> Server:
        usecase = tmp_path_factory.mktemp("usecases") / "water" / "usecase.yaml"
        usecase.parent.mkdir()
        usecase.write_text(yaml.safe_dump({**sections, "serve": {"limits": LIMITS, **(serve or {})}}))
        address = port or free_port()
        log = state.parent / f"{state.name}-{len(started)}.log"
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": tracking or registry.tracking,
            "TERRALOOP_DEPLOY_TOKEN": TOKEN,
            **variables,
        }
        command = [str(Path(sys.executable).parent / "eo-serving"), "serve", "--usecase", str(usecase)]
        command += ["--store", store or registry.store.uri, "--port", str(address), "--state", str(state), *options]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=stream, stdin=subprocess.DEVNULL
            )
        server = Server(process, f"http://127.0.0.1:{address}", log, state)
        started.append(server)
        return server

    yield start
    for server in started:
        try:
            server.stop()
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
        if server.process.stdout is not None:
            server.process.stdout.close()


@pytest.fixture(scope="session")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server that most tests share; it answers with the ledger's champion, version 2."""
    running = start_server(tmp_path_factory.mktemp("server") / "state")
    running.await_status("/readyz", 200)
    return running


@pytest.fixture(scope="session")
def chip() -> NDArray[np.uint16]:
    """Thirteen bands of random values, some without data."""
    pixels = np.random.default_rng(11).integers(1, 6000, (13, 120, 100)).astype(np.uint16)
    pixels[:, :9] = 0
    return pixels


@pytest.fixture(scope="session")
def tiff_chip(chip: NDArray[np.uint16], tiff: Any) -> bytes:
    """The chip as a GeoTIFF with described bands."""
    names = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
    return bytes(tiff(chip, names=names, nodata=0))


@pytest.fixture(scope="session")
def is_problem() -> Callable[[httpx.Response, int], dict[str, Any]]:
    """Check that an answer is a problem document of a status, and return its members."""

    def check(response: httpx.Response, status: int) -> dict[str, Any]:
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
        members: dict[str, Any] = json.loads(response.content)
        assert members["status"] == status
        assert members["detail"]
        assert {"type", "title"} <= set(members) <= {"type", "title", "status", "detail", "where", "fix"}
        assert len(response.content) < 2000
        return members

    return check


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
