"""The main job on running services: as child processes, or as runs of Airflow's DAGs. Both give the same report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from infra import environments
from infra.embedded import airflow, services
from infra.embedded.ports import Ports
from infra.embedded.services import Service
from infra.embedded.supervisor import Supervisor
from pipelines.airflow_client import AirflowClient
from pipelines.airflow_job import AirflowJob
from pipelines.main_job import Job, run_main_job
from pipelines.project import Project
from pipelines.runner import Runner

Report = dict[str, Any]


def start(
    project: Project, ports: Ports, job: Job, supervisor: Supervisor, variables: dict[str, str], *, with_airflow: bool
) -> Report:
    """Start the services and run the main job.

    Args:
        project: Where everything lies.
        ports: Where the services answer.
        job: What to do.
        supervisor: Starts and watches the services.
        variables: What services and steps find in their environment.
        with_airflow: Whether Airflow runs the main job.

    Returns:
        The report, with `seconds.services` and `urls`.

    Raises:
        ServiceDied: If a service ends or never answers.
        StepFailed: If a step fails.
    """
    stood = time.monotonic()
    started = [services.mlflow(project, ports), services.serving(project, ports, job.usecase)]
    for service in started:
        _start(service, project, supervisor)
    if with_airflow:
        found, ready = _by_airflow(project, ports, job, supervisor, started, stood)
    else:
        found, ready = _by_processes(project, job, supervisor, variables, started, stood)
    found["seconds"]["services"] = ready
    return found


def _by_processes(
    project: Project,
    job: Job,
    supervisor: Supervisor,
    variables: dict[str, str],
    started: Sequence[Service],
    stood: float,
) -> tuple[Report, float]:
    ready: list[float] = []

    def registry_ready() -> None:
        """Wait for the services, once: the first steps ran while they started."""
        if not ready:
            _await(started, supervisor)
            ready.append(round(time.monotonic() - stood, 1))

    runner = Runner(
        environments={name: environments.folder(name) / "bin" for name in ("train", "serve")},
        folder=project.logs,
        variables=variables,
        watch=supervisor.watch,
        on_start=supervisor.step_started,
    )
    return run_main_job(job, runner, announce=say, registry_ready=registry_ready), ready[0]


def _by_airflow(
    project: Project, ports: Ports, job: Job, supervisor: Supervisor, started: Sequence[Service], stood: float
) -> tuple[Report, float]:
    word, made = airflow.password(project)
    told = airflow.variables(project, ports, job.usecase, services.endpoint_url(ports))
    say("Making Airflow's tables ...")
    airflow.migrate(project, told)
    for service in airflow.services(told):
        _start(service, project, supervisor)
    if made:
        say(f"Airflow: user {airflow.USER}, password {word} (kept in {airflow.home(project)})")
    client = AirflowClient(airflow.url(ports), airflow.USER, word)
    airflow.await_health(client, supervisor)
    _await(started, supervisor)
    ready = round(time.monotonic() - stood, 1)
    found = AirflowJob(job, client, announce=say, watch=supervisor.watch).run()
    found["urls"] = {"Airflow": airflow.url(ports)}
    return found, ready


def _start(service: Service, project: Project, supervisor: Supervisor) -> None:
    where = f": {service.health}" if service.health else ""
    say(f"Starting {service.name}{where} (log: {services.log_file(project, service.name)})")
    supervisor.start(service)


def _await(started: Sequence[Service], supervisor: Supervisor) -> None:
    for service in started:
        if service.health is not None:
            supervisor.wait_for(service.name, service.health)


def say(line: str) -> None:
    """Tell people."""
    print(line, file=sys.stderr, flush=True)
