"""Airflow in the embedded body: its components apart, on SQLite, on 127.0.0.1 alone, with a password of its own.

`airflow standalone` is not used: when it is ended its components live on. The scheduler's and the triggerer's log
servers would listen on every interface; here the API server reads the logs from the same disk.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra import environments
from infra.embedded.ports import HOST, Ports
from infra.embedded.services import Service
from infra.embedded.supervisor import PATIENCE, ServiceDied, Supervisor
from pipelines.airflow_client import AirflowClient, AirflowOutOfReach, AirflowRefused
from pipelines.project import Project

USER: Final = "admin"
DAGS: Final = environments.ROOT / "pipelines" / "dags"
COMPONENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "airflow-api": ("api-server", "--host", HOST, "--workers", "1"),
    "airflow-scheduler": ("scheduler", "--skip-serve-logs"),
    "airflow-dag-processor": ("dag-processor",),
    "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
}
"""Service -> arguments of `airflow`."""
FIRST_DAG: Final = "ingest_scenes"
_PASSWORDS: Final = "simple_auth_manager_passwords.json.generated"
_KEYS: Final = "keys.json"


def url(ports: Ports) -> str:
    """Where the API and the pages are."""
    return f"http://{HOST}:{ports.airflow}"


def home(project: Project) -> Path:
    """Airflow's folder of a project."""
    return project.folder / "airflow"


def password(project: Project) -> tuple[str, bool]:
    """The administrator's password, and whether it was made just now."""
    path = home(project) / _PASSWORDS
    if path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))[USER]), False
    made = secrets.token_urlsafe(16)
    _write_secret(path, {USER: made})
    return made, True


def variables(project: Project, ports: Ports, usecase: str, endpoint: str) -> dict[str, str]:
    """What Airflow's components are told, and by way of them the DAGs."""
    folder, keys = home(project), _keys(project)
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(max(2, os.cpu_count() or 2)),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url(ports)}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / _PASSWORDS),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "AIRFLOW__API__PORT": str(ports.airflow),
        "AIRFLOW__API__BASE_URL": url(ports),
        "AIRFLOW__API__SECRET_KEY": keys["session"],
        "AIRFLOW__API_AUTH__JWT_SECRET": keys["tokens"],
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        # A task whose process was killed with the scheduler is tried again after a minute, not after five.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "PYTHONPATH": str(environments.ROOT),  # DAG files import `pipelines`
        "PYTHONWARNINGS": "ignore",
        "TERRALOOP_STEP_MODE": "process",
        "TERRALOOP_ENVIRONMENTS": str(environments.ROOT / ".nox"),
        "TERRALOOP_USECASE": usecase,
        "TERRALOOP_USECASES": os.environ.get("TERRALOOP_USECASES") or str(environments.ROOT / "usecases"),
        "TERRALOOP_ENDPOINT": endpoint,
        "TERRALOOP_COMMIT": _commit(),
    }


def services(told: Mapping[str, str]) -> list[Service]:
    """The components, each a process that is ended by itself."""
    program = str(environments.executable("airflow", "airflow"))
    port = ("--port", told["AIRFLOW__API__PORT"])
    return [
        Service(name, "airflow", (program, *arguments, *(port if name == "airflow-api" else ())), told, None)
        for name, arguments in COMPONENTS.items()
    ]


def migrate(project: Project, told: Mapping[str, str]) -> None:
    """Make the metadata's tables, or bring them up to date.

    Raises:
        ServiceDied: If that fails, with what was said last.
    """
    home(project).mkdir(parents=True, exist_ok=True)
    command = [str(environments.executable("airflow", "airflow")), "db", "migrate"]
    done = subprocess.run(
        command, env={**os.environ, **told}, cwd=environments.ROOT, capture_output=True, text=True, check=False
    )
    project.logs.mkdir(parents=True, exist_ok=True)
    (project.logs / "airflow-migrate.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise ServiceDied(f"airflow db migrate ended with exit code {done.returncode}; it said last:\n{said}")


def await_health(client: AirflowClient, supervisor: Supervisor) -> None:
    """Wait until every component is healthy and the DAGs are known.

    Raises:
        ServiceDied: If one ends meanwhile, this takes too long, or a DAG file cannot be read.
    """
    start = time.monotonic()
    supervisor.wait_for("airflow-api", f"{client.url}/api/v2/version")
    while missing := _missing(client):
        supervisor.watch()
        if time.monotonic() - start > PATIENCE:
            raise ServiceDied(f"Airflow is not whole after {PATIENCE:.0f} s: {missing}\n{supervisor.tail(missing)}")
        time.sleep(0.5)
    if errors := client.import_errors():
        raise ServiceDied("\n".join(f"{file} cannot be read:\n{trace}" for file, trace in errors.items()))


def _missing(client: AirflowClient) -> str:
    """The first component that is not there yet; empty where all are."""
    try:
        for name, service in (("scheduler", "airflow-scheduler"), ("dag_processor", "airflow-dag-processor"),
                              ("triggerer", "airflow-triggerer")):  # fmt: skip
            if client.health().get(name) != "healthy":
                return service
        return "" if client.known(FIRST_DAG) else "airflow-dag-processor"
    except (AirflowOutOfReach, AirflowRefused):
        return "airflow-api"


def _keys(project: Project) -> dict[str, str]:
    """The keys by which components trust each other; made once, since what they protect stays."""
    path = home(project) / _KEYS
    if not path.is_file():
        fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        _write_secret(
            path, {"fernet": fernet, "session": secrets.token_urlsafe(32), "tokens": secrets.token_urlsafe(64)}
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _write_secret(path: Path, content: Mapping[str, str]) -> None:
    """Write it so that only this user can read it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(dict(content), stream)
    work.replace(path)


def _commit() -> str:
    """The code's version; empty where this is no checkout."""
    command = ["git", "-C", str(environments.ROOT), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
