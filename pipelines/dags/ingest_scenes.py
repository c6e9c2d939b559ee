"""Scenes come in and are validated; what is accepted is told to those who wait for scenes."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

from pipelines import parameters
from pipelines.assets import INCOMING, SCENES
from pipelines.events import triggering
from pipelines.operators import step


@dag(
    description="Ingest scenes and labels, validate them, tell what was accepted",
    schedule=[INCOMING],
    catchup=False,
    max_active_runs=1,
    tags=["terraloop", "data"],
    default_args={"owner": "terraloop"},
    params={
        "usecase": parameters.usecase(),
        "source": parameters.uri("Source", "Folder, s3:// prefix or STAC API; empty is what the watcher saw"),
        "labels": parameters.uri("Labels", "Folder, map or polygons, also for scenes that are there already"),
        "simulate": parameters.uri("Simulate into", "Folder for simulated scenes, where there are no others"),
    },
)
def ingest_scenes() -> None:
    """Runs when files arrive in the watched place, or by hand."""

    @task(task_id="source")
    def find_source(params: dict[str, Any], **context: Any) -> str:
        """Where the scenes are."""
        arrived = [str(event["extra"].get("payload", {}).get("source", "")) for event in triggering(context)]
        return params["source"] or next(filter(None, reversed(arrived)), "")

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def simulated(params: dict[str, Any]) -> bool:
        """Whether scenes are to be made up."""
        return bool(params["simulate"])

    @task
    def report_quarantined(validated: dict[str, Any]) -> dict[str, str]:
        """What was not accepted, and why: a task of its own, so that a run shows it."""
        quarantined = dict(validated["quarantined"])
        if not quarantined:
            raise AirflowSkipException("every scene was accepted")
        for scene, why in quarantined.items():
            print(f"quarantined: {scene}: {why}")
        return quarantined

    source = find_source()
    simulate = step("simulate", given={"--out": "{{ params.simulate }}"})
    made = "{{ (ti.xcom_pull(task_ids='simulate') or {}).get('source') or ti.xcom_pull(task_ids='source') }}"
    ingest = step(
        "ingest",
        given={"--source": made, "--labels": "{{ params.labels }}"},
        trigger_rule="none_failed_min_one_success",
    )
    validate = step("validate", outlets=[SCENES], tells=("verdicts", "accepted", "quarantined"))
    simulated() >> simulate >> ingest
    source >> ingest >> validate
    report_quarantined(validate.output)


ingest_scenes()
