"""`--smoke` says so when something is wrong, and leaves nothing behind either way."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from infra.embedded import smoke, state
from pipelines import processes

if TYPE_CHECKING:
    from tests.infra.conftest import Repository

Patiently = Callable[[Callable[[], object]], None]


def test_without_right_answers_it_fails_and_leaves_nothing(repository: Repository) -> None:
    code, out, said = repository.call("--smoke")  # what pretends to serve knows no rasters
    assert code == 1
    assert out.endswith("smoke: FAILED\n")
    assert "scene a has no raster" in said
    assert not (repository.folder / ".terraloop").exists()


def test_a_failing_step_leaves_nothing(repository: Repository) -> None:
    code, _, said = repository.call("--smoke", FAKE_CHIP="exit:3")
    assert code == 3
    assert "chip refused the data" in said
    assert not (repository.folder / ".terraloop").exists()


def test_the_users_own_store_is_left_alone(repository: Repository, tmp_path: Path) -> None:
    store = tmp_path / "mine"
    code, out, _ = repository.call("--smoke", TERRALOOP_STORE=str(store))
    assert (code, store.exists()) == (1, False)
    assert str(store) not in out


def test_ctrl_c_leaves_nothing(repository: Repository, patiently: Patiently) -> None:
    child = repository.start("--smoke", FAKE_TRAIN="slow")
    patiently(lambda: [run for run in state.all_running(repository.folder) if len(run.processes()) >= 6])
    run = state.all_running(repository.folder)[0]
    child.send_signal(signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode == 130, said
    assert processes.marked(run.mark) == []
    assert not (repository.folder / ".terraloop").exists()


class YesMan(BaseHTTPRequestHandler):
    """Answers everything with 200 and `ok`, as a server that does not look at what it gets."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "image/tiff")
        self.send_header("Content-Length", "2")
        self.send_header("Terraloop-Model", "water/1")
        self.send_header("Terraloop-Digest", "d")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def yes_man() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), YesMan) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_check_can_fail(yes_man: str, root: Path, tmp_path: Path) -> None:
    image = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 2, "height": 80, "width": 70, "crs": "EPSG:32630"}
    with rasterio.open(image, "w", transform=from_origin(500000, 4000000, 10, 10), **profile) as target:
        target.write(np.ones((2, 80, 70), np.uint16))
        target.descriptions = ("B02", "B03")
    command = [sys.executable, "-m", smoke.REQUESTS, "--endpoint", yes_man, "--image", str(image)]
    command += ["--mask-digest", "e" * 64, "--model", "water/1", "--digest", "d"]
    usecase = tmp_path / "usecase.yaml"
    usecase.write_text("data: {bands: [{name: blue, aliases: [B02]}, {name: B03}]}")
    command += ["--usecase", str(usecase)]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    lines = answer.stdout.splitlines()
    assert answer.returncode == 1, answer.stderr
    assert len(lines) >= 15
    assert [line for line in lines if not line.startswith("FAILED  ")] == []
