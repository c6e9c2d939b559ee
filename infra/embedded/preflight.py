"""What is checked before anything starts, each with one clear line."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra import environments
from infra.embedded import ports, state
from pipelines.project import Misuse, Project

GIB: Final = 2**30
MIN_DISK: Final = "TERRALOOP_MIN_DISK_GIB"
DEFAULT_MIN_DISK: Final = 5.0
ENVIRONMENTS: Final = ("train", "serve", "mlflow")
AIRFLOW: Final = "airflow"


def needed(*, airflow: bool) -> tuple[str, ...]:
    """The environments of a stack."""
    return (*ENVIRONMENTS, AIRFLOW) if airflow else ENVIRONMENTS


def check(project: Project, wanted: ports.Ports, root: Path, *, airflow: bool) -> None:
    """Make sure that a stack can start.

    Raises:
        Misuse: With one line for everything that stands in its way.
    """
    faults = [*_running(project), *_tools(needed(airflow=airflow)), *_disk(root)] or list(_ports(wanted, airflow))
    if faults:
        raise Misuse("\n".join(faults))


def _running(project: Project) -> Iterator[str]:
    run = state.load(project.folder)
    if run is not None and run.running():
        yield (
            f"a stack of project {project.name} is running already: "
            f"`nox -s stack -- --down --project {project.name}` ends it, "
            "--project NAME --port-base N start another one beside it"
        )


def _ports(wanted: ports.Ports, airflow: bool) -> Iterator[str]:
    for service, port in wanted.named().items():
        if (airflow or service != "Airflow") and ports.in_use(port):
            holder = ports.holder(port)
            by = f" by {holder}" if holder else ""
            yield f"port {port} for {service} is in use{by}: choose others with --port-base N"


def _tools(wanted: tuple[str, ...]) -> Iterator[str]:
    if sys.platform not in ("linux", "darwin"):
        yield f"this needs Linux or macOS, not {sys.platform}: use WSL 2 on Windows"
    if not all(environments.up_to_date(name) for name in wanted):
        try:
            environments.find_uv()
        except environments.SetupFailed as missing:
            yield str(missing)


def _disk(root: Path) -> Iterator[str]:
    text = os.environ.get(MIN_DISK, str(DEFAULT_MIN_DISK))
    try:
        needed = float(text)
    except ValueError:
        yield f"{MIN_DISK}={text} is no number"
        return
    free = shutil.disk_usage(root).free / GIB
    if free < needed:
        yield f"{free:.1f} GiB are free at {root}, {needed:g} are needed: make room, or set {MIN_DISK} lower"
