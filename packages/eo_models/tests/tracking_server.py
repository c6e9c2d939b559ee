"""A real MLflow server on loopback that can be killed and started again, with a database and artifacts of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path


class TrackingServer:
    """`mlflow server` as a process.

    Args:
        folder: Where database, artifacts and log lie.
        port: A free one.
        empty_database: What the database begins as.
    """

    def __init__(self, folder: Path, port: int, empty_database: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.database = folder / "server.db"
        self.artifacts = folder / "artifacts"
        self._port = port
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.database.write_bytes(empty_database.read_bytes())

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}",
            "--artifacts-destination", self.artifacts.as_uri(), "--serve-artifacts",
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with self._log.open("ab") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment, start_new_session=True)
        self._process = process
        deadline = time.monotonic() + 120
        while not self._healthy():
            assert process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.3)

    def kill(self) -> None:
        """SIGKILL to it and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _healthy(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
