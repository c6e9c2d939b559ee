"""What a run says of where it comes from: the git commit, and the Airflow task that ran it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from eo_data.provenance import git_commit

DIRTY_TAG: Final = "terraloop.git.dirty"
_DIRTY: Final = "-dirty"

_DAG: Final = {
    "terraloop.dag.id": "AIRFLOW_CTX_DAG_ID",
    "terraloop.dag.run": "AIRFLOW_CTX_DAG_RUN_ID",
    "terraloop.dag.task": "AIRFLOW_CTX_TASK_ID",
    "terraloop.dag.try": "AIRFLOW_CTX_TRY_NUMBER",
}
"""Tags, and the variables in which Airflow tells a task's process which one it is."""


def run_tags(environment: Mapping[str, str]) -> dict[str, str]:
    """Tags of every run: what made it, from which commit, and for which run of which DAG.

    Args:
        environment: The process's variables.
    """
    return {
        "mlflow.source.name": "eo-models",
        "mlflow.source.type": "LOCAL",
        **_git(git_commit()),
        **dag_tags(environment),
    }


def dag_tags(environment: Mapping[str, str]) -> dict[str, str]:
    """Tags that name the DAG run, and its page where Airflow says its own address; none outside Airflow."""
    tags = {tag: environment[variable] for tag, variable in _DAG.items() if environment.get(variable)}
    address = environment.get("AIRFLOW__API__BASE_URL", "").rstrip("/")
    if address and {"terraloop.dag.id", "terraloop.dag.run"} <= tags.keys():
        dag, run = (quote(tags[tag], safe="") for tag in ("terraloop.dag.id", "terraloop.dag.run"))
        tags["terraloop.dag.url"] = f"{address}/dags/{dag}/runs/{run}"
    return tags


def _git(commit: str | None) -> dict[str, str]:
    if commit is None:
        return {}
    return {
        "mlflow.source.git.commit": commit.removesuffix(_DIRTY),
        DIRTY_TAG: str(commit.endswith(_DIRTY)).lower(),
    }
