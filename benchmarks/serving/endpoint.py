"""Servers on loopback, as processes of their own: this project's, and MLflow's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from eo_serving.backend import free_port

if TYPE_CHECKING:
    from benchmarks.serving.version import Registered

START_SECONDS: Final = 240.0


@contextmanager
def ours(registered: Registered, folder: Path, token: str | None = None) -> Iterator[str]:
    """`eo-serving serve` with the champion; its address.

    Args:
        registered: What is served.
        folder: Where it writes.
        token: With which versions can be changed; None if they cannot.
    """
    port = free_port()
    command = [str(Path(sys.executable).parent / "eo-serving"), "serve", "--usecase", registered.usecase.source]
    command += ["--store", registered.store.uri, "--port", str(port), "--state", str(folder / "state"), "--open"]
    variables = {"MLFLOW_TRACKING_URI": registered.tracking}
    if token is not None:
        variables["TERRALOOP_DEPLOY_TOKEN"] = token
    with _running(command, folder / "ours.log", variables, f"http://127.0.0.1:{port}", "/readyz") as url:
        yield url


@contextmanager
def mlflow_models_serve(registered: Registered, folder: Path) -> Iterator[str]:
    """`mlflow models serve` with the same graph as MLflow's ONNX flavour; its address."""
    port = free_port()
    model = saved_model(registered, folder)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with _running(command, folder / "mlflow.log", {}, f"http://127.0.0.1:{port}", "/ping") as url:
        yield url


@contextmanager
def stock_mlserver(registered: Registered, folder: Path, peers: Path) -> Iterator[str]:
    """MLServer with its own MLflow runtime and the same graph; its address."""
    import json

    port, rest = free_port(), folder / "stock"
    rest.mkdir()
    settings: dict[str, Any] = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_endpoint": None,
        "parallel_workers": 0, "debug": False,
    }  # fmt: skip
    (rest / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": "water",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": str(saved_model(registered, folder))},
    }
    (rest / "model-settings.json").write_text(json.dumps(model))
    command = [sys.executable, "-c", "from mlserver.cli import main; main()", "start", str(rest)]
    variables = {"PYTHONPATH": f"{peers}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    ready = "/v2/models/water/ready"
    with _running(command, folder / "stock.log", variables, f"http://127.0.0.1:{port}", ready) as url:
        yield url


def saved_model(registered: Registered, folder: Path) -> Path:
    """The graph as MLflow saves ONNX models, one thread."""
    import mlflow
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    path = folder / "mlflow-model"
    if not path.exists():
        shape = (-1, len(registered.files.description.input.bands), -1, -1)
        tensors = [Schema([TensorSpec(np.dtype(np.float32), shape, name)]) for name in ("reflectance", "probability")]
        mlflow.onnx.save_model(
            onnx.load_model_from_string(registered.files.graph),
            path,
            signature=ModelSignature(tensors[0], tensors[1]),
            onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        )
    return path


@contextmanager
def _running(command: list[str], log: Path, variables: dict[str, str], url: str, ready: str) -> Iterator[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # mlflow looks for uvicorn there
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": path, **variables},
        )
    try:
        _await(process, f"{url}{ready}", log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer:\n{log.read_text(errors='replace')[-3000:]}")
