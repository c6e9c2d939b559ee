"""A repository of its own for each test: the real runner and supervisor, with commands that pretend."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.embedded import ports, probe, state
from pipelines import processes

PATIENCE = 90.0
COPIED = ("pipelines", "infra", "locks")


@dataclass
class Repository:
    """A copy of what runs a stack, with environments of pretended commands."""

    folder: Path
    ports: ports.Ports = field(default_factory=ports.free)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start `nox -s stack -- --no-airflow ARGUMENTS`, less nox: of Airflow there is no pretended one."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TERRALOOP_")}
        child = subprocess.Popen(
            [sys.executable, "-m", "infra.embedded", "--no-airflow", *arguments],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": str(self.folder), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(child)
        return child

    def call(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Call it and wait: exit code, stdout, stderr."""
        child = self.start(*arguments, **variables)
        out, said = child.communicate(timeout=PATIENCE)
        return child.returncode, out, said

    def base(self) -> str:
        """A value for --port-base at which both ports are free."""
        while ports.in_use(self.ports.mlflow + 2) or self.ports.mlflow + 2 > 65535:
            self.ports = ports.free()
        self.ports = ports.shifted(self.ports.mlflow)
        return str(self.ports.mlflow)

    def project(self, name: str = "terraloop") -> Path:
        return self.folder / ".terraloop" / name

    def run(self, name: str = "terraloop") -> state.Run | None:
        return state.load(self.project(name))

    def answers(self) -> bool:
        """Whether the endpoint answers."""
        return probe.status(f"http://{ports.HOST}:{self.ports.endpoint}/readyz") == 200

    def everything(self, name: str = "terraloop") -> list[processes.Identity]:
        """Every process of a running stack; there must be some."""
        run = self.run(name)
        assert run is not None
        found = run.processes()
        assert len(found) >= 4, "two services with a child each"
        return found

    def clean_up(self) -> None:
        for run in state.all_running(self.folder):
            for process in (*run.processes(), *([run.supervisor] if run.supervisor else [])):
                os.kill(process.pid, signal.SIGKILL)
        for child in self.started:
            child.kill()
            child.communicate()


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait until something holds; a test must not hang."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def patiently() -> Callable[[Callable[[], Any]], None]:
    return wait_until


@pytest.fixture
def repository(
    tmp_path: Path, root: Path, fake_environments: Callable[[Path], dict[str, Path]]
) -> Iterator[Repository]:
    folder = tmp_path / "repository"
    for name in COPIED:
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("eo_data", "eo_models", "eo_serving"):
        (folder / "packages" / package).mkdir(parents=True)
        shutil.copy(root / "packages" / package / "pyproject.toml", folder / "packages" / package)
    (folder / "usecases" / "water").mkdir(parents=True)
    (folder / "usecases" / "water" / "usecase.yaml").touch()
    fake_environments(folder / ".nox")
    stamp = (
        "from infra import environments as e\n"
        "for name in ('train', 'serve', 'mlflow'): (e.folder(name) / e.STAMP).write_text(e._stamp(name))"
    )
    subprocess.run([sys.executable, "-c", stamp], cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, check=True)
    made = Repository(folder)
    yield made
    made.clean_up()
