"""The MLServer child behind the front: its settings, its start, its loads, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

import httpx

from eo_data.errors import TemporaryFailure
from eo_data.step import write_atomically
from eo_serving.mlserver_process import SETTINGS_FILE
from eo_serving.problem import HttpRefusal, Problem

log = logging.getLogger(__name__)

START_SECONDS: Final = 180.0
"""Imports alone take a quarter of a minute on a busy machine."""
STOP_SECONDS: Final = 15.0
LOAD_SECONDS: Final = 300.0

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV",
                     "LD_LIBRARY_PATH", "PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_CACHEMAX")  # fmt: skip
"""What the child gets of the environment: it decodes what strangers send, so it holds no token and no credential."""


class LoadFailed(HttpRefusal):
    """MLServer did not load a version; the one before goes on answering."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, where=problem.where, fix=problem.fix)
        self.status = problem.status


class Backend:
    """One MLServer process on a loopback port.

    Args:
        state: Folder of its settings.
        port: Its HTTP port; 0 takes a free one at each start.

    Attributes:
        url: Where it listens.
        live: Whether it can be asked.
        loaded: Whether it holds a version that answers.
        starts: How often it was started.
    """

    def __init__(self, state: Path, port: int = 0) -> None:
        self._state = state
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.live = False
        self.loaded = False
        self.starts = 0

    @property
    def repository(self) -> Path:
        """MLServer's model repository."""
        return self._state / "repository"

    async def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            TemporaryFailure: If it ends or does not answer in time.
        """
        self.loaded = False
        self.starts += 1
        port = self._port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.repository.mkdir(parents=True, exist_ok=True)
        write_atomically(self._state / SETTINGS_FILE, json.dumps(settings(self.repository, port)).encode())
        environment = {"GDAL_CACHEMAX": "256"}  # MiB; else a twentieth of the machine's memory
        environment |= {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "eo_serving.mlserver_process", str(self._state),
            stdin=asyncio.subprocess.PIPE, stdout=sys.stderr, env=environment, cwd=self._state,
            start_new_session=True,  # Ctrl-C reaches the front alone, which ends its child when requests have ended
        )  # fmt: skip
        log.info("MLServer starts as process %d on %s", self._process.pid, self.url)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._until_live(self._process)
            self.live = True
        except TimeoutError as error:
            await self.stop()
            raise TemporaryFailure(
                f"MLServer did not answer in {START_SECONDS:g} s", where=self.url, fix="See its log above"
            ) from error

    async def _until_live(self, process: asyncio.subprocess.Process) -> None:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=5) as client:
            while process.returncode is None:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/v2/health/live")).is_success:
                        return
                await asyncio.sleep(0.1)
        raise TemporaryFailure(
            f"MLServer ended with {process.returncode} while it started", where=self.url, fix="See its log above"
        )

    async def load(
        self,
        name: str,
        version_folder: Path,
        usecase_file: Path,
        declared: dict[str, Any],
        shadow_folder: Path | None = None,
    ) -> None:
        """Load a version in place of the one that answers, which answers until the new one has passed its test.

        Args:
            name: The model's name.
            version_folder: Where the version lies.
            usecase_file: The use case.
            declared: The rest of `model-settings.json`: version, inputs, outputs.
            shadow_folder: Where a challenger lies; None without one.

        Raises:
            LoadFailed: If MLServer refuses it; the one before goes on answering.
            TemporaryFailure: If MLServer does not answer.
        """
        path = self.repository / name / "model-settings.json"
        before = path.read_bytes() if path.is_file() else None
        content = {
            "name": name,
            "implementation": "eo_serving.runtime.MaskRuntime",
            "parameters": {
                "extra": {
                    "folder": str(version_folder),
                    "usecase": str(usecase_file),
                    "shadow": str(shadow_folder or ""),
                }
            },
            **declared,
        }
        write_atomically(path, json.dumps(content).encode())
        try:
            await self._post_load(name)
        except BaseException:
            if before is None:
                path.unlink()
            else:
                write_atomically(path, before)
            raise
        self.loaded = True

    async def _post_load(self, name: str) -> None:
        try:
            async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=LOAD_SECONDS) as client:
                response = await client.post(f"/v2/repository/models/{name}/load")
        except httpx.TransportError as error:
            raise TemporaryFailure("MLServer does not answer", where=self.url, fix="Try again in a minute") from error
        if not response.is_success:
            raise LoadFailed(mlserver_problem(response.status_code, response.content))

    async def wait(self) -> int:
        """Wait for the process to end and return its exit code."""
        assert self._process is not None, "start() comes first"  # noqa: S101
        code = await self._process.wait()
        self.live = self.loaded = False
        return code

    async def stop(self) -> None:
        """End the process: by SIGTERM, and after a while by SIGKILL, with all that it started."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                log.warning("MLServer does not end; it is killed")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads its own group
        await process.wait()


def settings(repository: Path, port: int) -> dict[str, Any]:
    """MLServer's settings: loopback only, in process, without gzip and debug; metrics and gRPC have no door yet."""
    return {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": 0,  # any free one: MLServer has no switch for it, and nobody is told
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "gzip_enabled": False,
        "debug": False,
        "load_models_at_startup": False,
        "model_repository_root": str(repository),
        "server_name": "terraloop",
    }


def mlserver_problem(status: int, body: bytes) -> Problem:
    """The problem in an answer of MLServer: ours inside `{"error": ...}`, or what its own validation says."""
    try:
        document = json.loads(body)
    except ValueError:
        return Problem(status, f"the model server answered {status}")
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        try:
            ours = json.loads(document["error"])
            return Problem(status, ours["detail"], ours.get("where", ""), ours.get("fix", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            return Problem(status, document["error"][:300])
    faults = document.get("detail") if isinstance(document, dict) else None
    if isinstance(faults, list) and faults and isinstance(faults[0], dict):
        place = ".".join(str(part) for part in faults[0].get("loc", ()))[:200]
        return Problem(status, f"{faults[0].get('msg', 'the request is not valid')}"[:300], place)
    return Problem(status, f"the model server answered {status}")


def free_port() -> int:
    """A loopback port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
