"""Copy this file to write a DAG of your own: steps by their verbs, and functions where no step does it.

The same DAG in YAML: `template_dag_factory.yaml`.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from pipelines import parameters
from pipelines.operators import step


@dag(
    description="A template: ingest and validate scenes, then say what was accepted",
    schedule=None,
    catchup=False,
    tags=["terraloop", "template"],
    default_args={"owner": "you"},
    params={
        "usecase": parameters.usecase(),
        "source": parameters.uri("Source", "Folder, s3:// prefix or STAC API"),
    },
)
def template_dag() -> None:
    """Two steps, the second fed by the first, and a function."""

    @task
    def summary(validated: dict[str, Any]) -> str:
        """Work of your own; what it returns must be JSON."""
        return f"{len(validated['accepted'])} accepted, {len(validated['quarantined'])} quarantined"

    ingest = step("ingest", given={"--source": "{{ params.source }}"})
    validate = step("validate")  # its --batch comes from `ingest`
    ingest >> validate
    summary(validate.output)


template_dag()
