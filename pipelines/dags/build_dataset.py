"""Accepted scenes become chips: a dataset, known by its digest."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

from pipelines import parameters
from pipelines.assets import DATASET, SCENES
from pipelines.events import newest, usecase_of
from pipelines.operators import step


@dag(
    description="Cut every accepted scene into chips, as of the newest verdicts",
    schedule=[SCENES],
    catchup=False,
    max_active_runs=1,
    tags=["terraloop", "data"],
    default_args={"owner": "terraloop"},
    params={
        "usecase": parameters.usecase(),
        "verdicts": parameters.uri("Verdicts", "Of a batch; empty is the newest"),
    },
)
def build_dataset() -> None:
    """Runs when scenes were validated. Many events while it is busy make one run: a dataset holds all scenes."""

    @task(task_id="verdicts", inlets=[SCENES])
    def find_verdicts(params: dict[str, Any], **context: Any) -> str:
        """Which batch is the newest."""
        usecase = usecase_of(params, context["triggering_asset_events"])
        found = newest(context, SCENES, usecase=usecase)
        if not params["verdicts"] and found is None:
            raise AirflowFailException("nothing was validated yet: run ingest_scenes, or name verdicts")
        return str(params["verdicts"] or (found or {})["extra"]["verdicts"])

    chip = step("chip", given={"--verdicts": "{{ ti.xcom_pull(task_ids='verdicts') }}"}, outlets=[DATASET],
                tells=("dataset", "digest"))  # fmt: skip
    find_verdicts() >> chip


build_dataset()
