"""What is known of a running stack: `run.json` in its project's folder, written before anything relies on it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pipelines import processes
from pipelines.processes import Identity
from pipelines.project import STATE, Project

FILE: Final = "run.json"


@dataclass(frozen=True)
class Run:
    """A stack that was started.

    Attributes:
        project: Its project's name.
        mark: What all its processes carry in their environment.
        supervisor: The process that looks after it; None once it is detached.
        services: Name -> process.
        step: The step under way.
        urls: Name -> URL, for people.
    """

    project: str
    mark: str
    supervisor: Identity | None = None
    services: Mapping[str, Identity] = field(default_factory=dict)
    step: Identity | None = None
    urls: Mapping[str, str] = field(default_factory=dict)

    def processes(self) -> list[Identity]:
        """Every process of this stack that still runs, its supervisor excepted."""
        known = [*self.services.values(), *([self.step] if self.step else [])]
        alive = {process.pid: process for process in known if process.alive()}
        alive |= {process.pid: process for process in processes.marked(self.mark)}
        return [process for process in alive.values() if process != self.supervisor]

    def running(self) -> bool:
        """Whether anything of it still runs."""
        return bool(self.supervisor and self.supervisor.alive()) or bool(self.processes())

    def with_service(self, name: str, process: Identity) -> Run:
        """The same run with one more service."""
        return replace(self, services={**self.services, name: process})


def save(run: Run, project: Project) -> None:
    """Write what is known, whole or not at all."""
    path = project.folder / FILE
    work = path.with_name(f".{FILE}.{os.getpid()}")
    work.write_text(json.dumps(asdict(run), indent=2) + "\n", encoding="utf-8")
    work.replace(path)


def load(folder: Path) -> Run | None:
    """The run that a project's folder tells of; None if there is none."""
    try:
        told: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Run(
            project=told["project"],
            mark=told["mark"],
            supervisor=_identity(told["supervisor"]),
            services={name: Identity(**process) for name, process in told["services"].items()},
            step=_identity(told["step"]),
            urls=told["urls"],
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def forget(project: Project) -> None:
    """Remove what is known: nothing runs any more."""
    (project.folder / FILE).unlink(missing_ok=True)


def all_running(root: Path) -> list[Run]:
    """Every stack of this repository of which something runs, by name."""
    runs = (load(path.parent) for path in sorted((root / STATE).glob(f"*/{FILE}")))
    return [run for run in runs if run is not None and run.running()]


def _identity(told: dict[str, Any] | None) -> Identity | None:
    return None if told is None else Identity(**told)
