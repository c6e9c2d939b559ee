"""`nox -s doctor`: what this machine has of what the project needs. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator

from infra import environments
from infra.embedded import ports, state

Line = tuple[str, str]


def main() -> int:
    """Print one line per fact; 0 whatever they are."""
    for name, fact in (*_machine(), *_environments(), *_ports(), *_stacks()):
        print(f"{name:<18} {fact}")
    return 0


def _machine() -> Iterator[Line]:
    yield "system", f"{platform.platform()}, {os.cpu_count()} cores"
    yield "python", f"{platform.python_version()} at {sys.executable}"
    try:
        yield "uv", environments.find_uv()
    except environments.SetupFailed as missing:
        yield "uv", f"MISSING: {missing}"
    for tool in ("git", "docker"):
        yield tool, shutil.which(tool) or "not found"
    yield "disk", f"{shutil.disk_usage(environments.ROOT).free / 2**30:.1f} GiB free at {environments.ROOT}"
    yield "torch", f"build: {' '.join(environments.torch_arguments()) or 'the wheel in PIP_FIND_LINKS'}"


def _environments() -> Iterator[Line]:
    for name in environments.OWN_PACKAGES:
        yield f"environment {name}", "ready" if environments.up_to_date(name) else "to be made"


def _ports() -> Iterator[Line]:
    for service, port in ports.shifted(ports.MLFLOW).named().items():
        used = f"in use ({ports.holder(port) or 'unknown process'})" if ports.in_use(port) else "free"
        yield f"port {port}", f"{used}, for {service}"


def _stacks() -> Iterator[Line]:
    running = state.all_running(environments.ROOT)
    yield "running stacks", ", ".join(run.project for run in running) or "none"


if __name__ == "__main__":
    sys.exit(main())
