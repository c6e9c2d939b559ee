"""Bring a stack up, run the main job once, show what came out, and stay."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra import environments
from infra.embedded import jobs, preflight, scenes, services
from infra.embedded.jobs import Report, say
from infra.embedded.options import Options
from infra.embedded.ports import Ports
from infra.embedded.supervisor import Supervisor
from pipelines import report
from pipelines.interruption import Interrupted
from pipelines.main_job import Job
from pipelines.processes import RUN_VARIABLE
from pipelines.project import Project, as_path, as_source, as_usecase

TOKEN_FILE = "deploy-token"  # noqa: S105  the name of a file


@dataclass(frozen=True)
class Stack:
    """A stack that is to be brought up.

    Attributes:
        project: Where its things lie.
        ports: Where its services answer.
        options: What was asked for.
    """

    project: Project
    ports: Ports
    options: Options


def stay(stack: Stack) -> int:
    """Bring a stack up and stay until the user ends it, or leave it running where that was asked for.

    Returns:
        0: ending it is the ordinary end.

    Raises:
        ServiceDied: If a service ends, at any time.
        StepFailed: If a step of the main job fails.
        Interrupted: If the user ends it before the main job has ended.
    """
    served = False

    def serve(found: Report, supervisor: Supervisor) -> bool:
        nonlocal served
        served = True
        if stack.options.detach:
            supervisor.detach(found["urls"])
            say(f"The services go on: `nox -s stack -- --down --project {stack.project.name}` ends them.")
            return False
        say("Serving. Ctrl-C ends it.")
        while True:
            supervisor.watch()
            time.sleep(1)

    try:
        run(stack, serve)
    except Interrupted:
        if not served:
            raise
        say("Ended; nothing is left running.")
    return 0


def run(stack: Stack, then: Callable[[Report, Supervisor], bool]) -> Report:
    """Make the environments, start the services, run the main job, show its table, and hand over.

    Args:
        stack: What to bring up.
        then: What to do with the running stack; it says whether the services are to be ended afterwards.

    Returns:
        The report.

    Raises:
        Misuse: If something stands in its way; then nothing was started.
    """
    project = stack.project
    job = _job(stack)
    if stack.options.report:
        report.check(as_path(stack.options.report))
    airflow = stack.options.airflow
    preflight.check(project, stack.ports, environments.ROOT, airflow=airflow)
    environments.ensure(preflight.needed(airflow=airflow))
    project.claim("stack")
    with project.alone():
        mark, token = secrets.token_hex(8), secrets.token_urlsafe(32)
        variables = services.variables(project, stack.ports, {RUN_VARIABLE: mark}, token)
        _keep_secret(project.folder / TOKEN_FILE, token)
        supervisor = Supervisor(project, mark, variables)
        keep = False
        try:
            found = _main_job(stack, job, supervisor, variables)
            keep = not then(found, supervisor)
        finally:
            if not keep:
                supervisor.end()
                (project.folder / TOKEN_FILE).unlink(missing_ok=True)
    return found


def _job(stack: Stack) -> Job:
    """What the main job is to do; a use case or source that is not there is seen here."""
    return Job(
        usecase=as_usecase(stack.options.usecase, environments.ROOT),
        store=stack.project.store,
        scenes=as_source(stack.options.scenes),
        simulated=str(stack.project.simulated),
        endpoint=services.endpoint_url(stack.ports),
        serve=stack.options.serve,
    )


def _main_job(stack: Stack, job: Job, supervisor: Supervisor, variables: dict[str, str]) -> Report:
    """Services up, main job, table."""
    project, ports, airflow = stack.project, stack.ports, stack.options.airflow
    found = jobs.start(project, ports, job, supervisor, variables, with_airflow=airflow)
    door = services.endpoint_url(ports)
    supervisor.wait_for("serving", f"{door}/readyz")
    urls = {"MLflow": services.mlflow_url(ports), "front": f"{door}/", "ready": f"{door}/readyz"}
    urls = {**found.pop("urls", {}), **urls, "data docs": found["docs"]}
    found = {"project": project.name, "body": "embedded", "urls": urls, **found}
    if stack.options.report:
        report.write(found, as_path(stack.options.report))
    print(report.table(found), flush=True)
    print(_curl(found, project), flush=True)
    return found


def _curl(found: Report, project: Project) -> str:
    """One line that asks the endpoint for a mask of the reference scene."""
    raster = scenes.raster(project.store, found["mask"]["scene"]) or "SCENE.tif"
    url = f"{found['endpoint']}{found['mask']['query']}"
    return f"curl -sS -H 'Content-Type: image/tiff' --data-binary {shlex.quote(f'@{raster}')} '{url}' -o mask.tif"


def _keep_secret(path: Path, token: str) -> None:
    """Write the deploy token so that only this user can read it."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(token + "\n")
