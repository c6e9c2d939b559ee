"""The services of the embedded body: how each is started and how one sees that it is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra import environments
from infra.embedded.ports import HOST, Ports
from pipelines.project import Project


@dataclass(frozen=True)
class Service:
    """A process that serves until it is ended.

    Attributes:
        name: Its name, also of its log.
        environment: The environment of its program.
        command: Program and arguments.
        variables: Its own environment variables.
        health: URL that answers 200 once it is there; None where something else tells.
    """

    name: str
    environment: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    health: str | None


def mlflow_url(ports: Ports) -> str:
    """Where MLflow answers."""
    return f"http://{HOST}:{ports.mlflow}"


def endpoint_url(ports: Ports) -> str:
    """Where the serving front answers."""
    return f"http://{HOST}:{ports.endpoint}"


def mlflow(project: Project, ports: Ports) -> Service:
    """The tracking server and registry, artifacts through it."""
    command = [str(environments.executable("mlflow", "mlflow")), "server", "--host", HOST]
    command += ["--port", str(ports.mlflow), "--workers", "1", "--serve-artifacts"]
    command += ["--backend-store-uri", project.database, "--artifacts-destination", project.artifacts]
    # Its job execution starts eight more processes, and leaves one of them behind when it is ended.
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Service("mlflow", "mlflow", tuple(command), variables, f"{mlflow_url(ports)}/health")


def serving(project: Project, ports: Ports, usecase: str) -> Service:
    """The one HTTP door and the MLServer behind it."""
    command = [str(environments.executable("serve", "eo-serving")), "serve", "--usecase", usecase]
    command += ["--store", project.store, "--host", HOST, "--port", str(ports.endpoint)]
    command += ["--state", str(project.folder / "serving"), "--open"]
    return Service("serving", "serve", tuple(command), {}, f"{endpoint_url(ports)}/healthz")


def variables(project: Project, ports: Ports, mark: Mapping[str, str], token: str) -> dict[str, str]:
    """What every service and step of a stack finds in its environment."""
    spared = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost"]))
    return {
        **mark,
        **project.survivors,
        "MLFLOW_TRACKING_URI": mlflow_url(ports),
        "TERRALOOP_STORE": project.store,
        "TERRALOOP_DEPLOY_TOKEN": token,
        "NO_PROXY": spared,  # a proxy for the world outside must not be asked for 127.0.0.1
        "no_proxy": spared,
    }


def log_file(project: Project, name: str) -> Path:
    """Where a service's output goes."""
    return project.logs / f"{name}.log"
