"""The same line against a real MLflow server: runs, artifacts and versions over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from eo_data.model.files import fetch_model
from eo_data.model.session import OnnxModel
from eo_models.evaluation import evaluate
from eo_models.promotion import promote
from eo_models.training import train

from .conftest import World


@pytest.fixture
def server(tmp_path: Path, empty_database: Path, unused_port: int) -> Iterator[str]:
    """The URL of an MLflow server with a database and artifacts of its own."""
    database = tmp_path / "server.db"
    database.write_bytes(empty_database.read_bytes())
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(unused_port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", (tmp_path / "artifacts").as_uri(),
        "--serve-artifacts",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = tmp_path / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not _healthy(unused_port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield f"http://127.0.0.1:{unused_port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _healthy(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_the_line_over_http(
    make_world: Callable[..., World], server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = make_world()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    trained = train(world.store, world.usecase, world.dataset.uri, progress=False)
    files = fetch_model(trained["model"])
    assert files.digest == trained["digest"]
    OnnxModel(files.graph, files.description).self_test()
    evaluated = evaluate(world.store, world.usecase, trained["model"], world.dataset.uri, progress=False)
    assert promote(world.store, world.usecase, evaluated["evaluation"])["gate"]["verdict"] == "promoted"
    assert train(world.store, world.usecase, world.dataset.uri, progress=False) == {**trained, "existing": True}
    uploaded = {path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}
    assert {"model.onnx", "model.json", "MLmodel", "validation.png", "report.html", "samples.png"} <= uploaded
    assert not (world.database.parent / "mlartifacts").exists()
