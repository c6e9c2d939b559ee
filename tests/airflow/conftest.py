"""A real Airflow (API server, scheduler, DAG processor, triggerer) whose steps are pretended commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra import environments
from infra.embedded import airflow, ports
from pipelines.airflow_client import ENDED, AirflowClient, AirflowOutOfReach, AirflowRefused, DagRun
from pipelines.project import Project

PATIENCE = 120.0
COMMANDS = {"train": ("eo-data", "eo-models"), "serve": ("eo-serving",)}


@dataclass
class World:
    """One Airflow and what it may be asked.

    Attributes:
        folder: Where everything lies.
        told: What the components are told.
        client: Its API.
        processes: Component -> process.
    """

    folder: Path
    told: Mapping[str, str]
    client: AirflowClient
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start components, all of them where none is named."""
        for service in airflow.services(self.told):
            if not names or service.name in names:
                log = (self.folder / f"{service.name}.log").open("ab")
                self.processes[service.name] = subprocess.Popen(
                    service.command,
                    env={**_bare(), **self.told},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                log.close()

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a component and all that it has started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, number)
        process.wait()

    def await_health(self) -> None:
        """Wait until every component is there and the DAGs are known."""

        def whole() -> bool:
            try:
                healthy = [self.client.health().get(name) for name in ("scheduler", "dag_processor", "triggerer")]
                return healthy == ["healthy"] * 3 and self.client.known("train_model")
            except (AirflowOutOfReach, AirflowRefused):
                return False

        self.eventually(whole, "Airflow is not whole")

    def eventually(self, holds: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Wait until something holds; what it gives."""

        def asked() -> Any:
            try:
                return holds()
            except AirflowOutOfReach:  # SQLite is busy now and then; the main job asks again too
                return None

        deadline = time.monotonic() + patience
        while not (found := asked()):
            for name, process in self.processes.items():
                log = self.folder / f"{name}.log"
                assert process.poll() is None, f"{name} has ended:\n{log.read_text(errors='replace')[-3000:]}"
            assert time.monotonic() < deadline, what
            time.sleep(0.25)
        return found

    def plan(self, **verbs: Mapping[str, Any]) -> None:
        """Say how steps behave from now on, and forget their calls."""
        (self.folder / "plan.json").write_text(json.dumps(verbs), encoding="utf-8")
        (self.folder / "calls.jsonl").write_text("", encoding="utf-8")

    def calls(self, verb: str) -> list[dict[str, Any]]:
        """How a step was called since then."""
        lines = (self.folder / "calls.jsonl").read_text(encoding="utf-8").splitlines()
        return [call for call in map(json.loads, lines) if call["verb"] == verb]

    def start_run(self, dag: str, **conf: Any) -> DagRun:
        """Start a run by hand."""
        return self.client.trigger(dag, conf, "a test")

    def finish(self, run: DagRun) -> dict[str, str]:
        """Wait for a run's end; the states of its tasks, and of the run itself under ``run``."""
        self.eventually(lambda: self.client.state(run) in ENDED, f"{run} does not end")
        return {**self.states(run), "run": self.client.state(run)}

    def states(self, run: DagRun) -> dict[str, str]:
        """Task -> state; of mapped tasks ``task[index]``."""
        found = {}
        for one in self.client.tasks(run):
            index = f"[{one['map_index']}]" if one["map_index"] >= 0 else ""
            found[f"{one['task_id']}{index}"] = one["state"]
        return found

    def follow(self, run: DagRun, dag: str) -> DagRun:
        """The run of another DAG that this one has set off."""
        found: DagRun = self.eventually(lambda: self.client.caused(run, dag), f"{run} sets off no {dag}")
        return found

    def log(self, run: DagRun, task: str, attempt: int = 1) -> str:
        """A task's log."""
        return "\n".join(self.client.log(run, task, attempt))

    def end(self) -> None:
        """End everything."""
        for name in list(self.processes):
            self.kill(name, signal.SIGTERM if name == "airflow-api" else signal.SIGKILL)


def _bare() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("TERRALOOP_", "AIRFLOW"))}


def make_world(folder: Path, **settings: str) -> World:
    """Start an Airflow in a folder.

    Args:
        folder: Where it lies.
        settings: Variables of the deployment.
    """
    if not environments.up_to_date("airflow"):
        pytest.skip("the environment `airflow` is not there: `nox -s test-pipelines` makes it")
    for name, commands in COMMANDS.items():
        place = folder / "environments" / name / "bin"
        place.mkdir(parents=True)
        source = (Path(__file__).parent / "pretended_step.py").read_text(encoding="utf-8")
        source = source.replace("parents[2]", "parents[3]")  # it lies deeper there
        for command in commands:
            (place / command).write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
            (place / command).chmod(0o755)
    project = Project("test", folder, (folder / "store").as_uri())
    free = ports.free()
    told = airflow.variables(project, free, "water", "http://127.0.0.1:1")
    told |= {
        "TERRALOOP_ENVIRONMENTS": str(folder / "environments"),
        "TERRALOOP_STORE": project.store,
        "TERRALOOP_COMMIT": "c0ffee",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
        **settings,
    }
    word, _ = airflow.password(project)
    airflow.migrate(project, {**_bare(), **told})
    world = World(folder, told, AirflowClient(airflow.url(free), airflow.USER, word))
    world.plan()
    world.start()
    try:
        world.await_health()
    except BaseException:
        world.end()
        raise
    return world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An Airflow without a cool-down (no run of one test waits into the next), a calendar, or anybody who approves."""
    folder = tmp_path_factory.mktemp("airflow")
    made = make_world(folder, TERRALOOP_COOLDOWN_HOURS="0")
    yield made
    made.end()
    shutil.rmtree(folder, ignore_errors=True)
