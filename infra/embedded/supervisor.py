"""Start services, see that they live, and end everything that was started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from infra import environments
from infra.embedded import probe, state
from infra.embedded.services import Service, log_file
from pipelines import interruption, processes
from pipelines.project import Project

PATIENCE: Final = 120.0
"""Seconds that a service has to answer: MLflow took 72 on a machine under load."""
TOLD_EVERY: Final = 5.0
GRACE: Final = 10.0
"""Seconds that services have to end after SIGTERM."""
TAIL_LINES: Final = 30


class ServiceDied(Exception):
    """A service ended, or never answered; the message has the end of its log."""


class Supervisor:
    """The processes of one stack.

    Args:
        project: The stack's project.
        mark: What all its processes carry in TERRALOOP_RUN.
        variables: Environment variables for each of them.
    """

    def __init__(self, project: Project, mark: str, variables: Mapping[str, str]) -> None:
        self._project = project
        self._variables = dict(variables)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._run = state.Run(project.name, mark, supervisor=processes.identify(os.getpid()))
        state.save(self._run, project)

    @property
    def run(self) -> state.Run:
        """What is known of the stack now."""
        return self._run

    def start(self, service: Service) -> None:
        """Start a service in a session of its own; its output goes to its log."""
        log = log_file(self._project, service.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            child = subprocess.Popen(
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._variables, **service.variables},
                cwd=environments.ROOT,
                start_new_session=True,
                pass_fds=[environments.in_use(service.environment)],  # it may outlive this process
            )
        self._children[service.name] = child
        self._know(self._run.with_service(service.name, processes.identify(child.pid)))

    def step_started(self, step: processes.Identity) -> None:
        """Remember the step under way, so that it can be ended from outside."""
        self._know(replace(self._run, step=step))

    def wait_for(self, name: str, url: str) -> None:
        """Wait until a URL of a service answers 200, and say so every few seconds.

        Raises:
            ServiceDied: If a service ends meanwhile, or this one stays silent.
        """
        start = time.monotonic()
        told = 0.0
        while probe.status(url) != 200:
            self.watch()
            waited = time.monotonic() - start
            if waited > PATIENCE:
                raise ServiceDied(f"{name} did not answer at {url} within {PATIENCE:.0f} s\n{self.tail(name)}")
            if waited - told >= TOLD_EVERY:
                told = waited
                print(f"waiting for {name} at {url}: {waited:.0f} s", file=sys.stderr, flush=True)
            time.sleep(0.25)

    def watch(self) -> None:
        """Look whether everything is still there.

        Raises:
            ServiceDied: If a service has ended.
            Interrupted: If the program that started this one has ended.
        """
        interruption.check_parent()
        for name, child in self._children.items():
            code = child.poll()
            if code is not None:
                raise ServiceDied(f"{name} ended with exit code {code}; the end of its log:\n{self.tail(name)}")

    def detach(self, urls: Mapping[str, str]) -> None:
        """Leave the services to themselves; `--down` finds them."""
        self._know(replace(self._run, supervisor=None, step=None, urls=urls))

    def end(self) -> None:
        """End everything that was started and forget the run."""
        with interruption.shielded():
            # Services are asked first and together; then whatever carries the mark goes, wherever it hides.
            processes.end(self._run.services.values(), grace=GRACE)
            processes.end(self._run.processes(), grace=GRACE / 4)
            for child in self._children.values():
                child.wait()
            state.forget(self._project)

    def _know(self, run: state.Run) -> None:
        self._run = run
        state.save(run, self._project)

    def tail(self, name: str) -> str:
        """The end of a service's log."""
        text = log_file(self._project, name).read_text(encoding="utf-8", errors="replace")
        return "\n".join(f"  {name} | {line}" for line in text.splitlines()[-TAIL_LINES:])
