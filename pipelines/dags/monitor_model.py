"""Requests and fresh labels are looked at; where they call for it, a training is asked for."""

from __future__ import annotations

from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from pipelines import parameters
from pipelines.assets import DATASET, DEPLOYMENT, RETRAINING
from pipelines.events import newest
from pipelines.operators import step


@dag(
    description="Score the champion on fresh labels, look for drift in requests, ask for a training",
    schedule=CronTriggerTimetable(DEPLOYMENT.monitoring, timezone="UTC") if DEPLOYMENT.monitoring else None,
    catchup=False,
    max_active_runs=1,
    tags=["terraloop", "model"],
    default_args={"owner": "terraloop"},
    params={
        "usecase": parameters.usecase(),
        "dataset": parameters.uri("Dataset", "With the fresh labels; empty is the newest"),
    },
)
def monitor_model() -> None:
    """Runs by the calendar, or by hand."""

    @task(task_id="dataset", inlets=[DATASET])
    def find_dataset(params: dict[str, Any], **context: Any) -> str:
        """Where fresh labels may be."""
        found = newest(context, DATASET, usecase=params["usecase"])
        if not params["dataset"] and found is None:
            raise AirflowSkipException("there is no dataset yet, hence no fresh label")
        return str(params["dataset"] or (found or {})["extra"]["dataset"])

    @task(outlets=[RETRAINING])
    def ask(monitored: dict[str, Any], **context: Any) -> list[str]:
        """Ask for a training."""
        reasons = [str(reason) for reason in monitored["reasons"]]
        if not monitored["retrain"]:
            raise AirflowSkipException("; ".join(reasons) or "nothing calls for a training")
        lost = (monitored["quality"] or {}).get("dropped", False)
        context["outlet_events"][RETRAINING].extra = {
            "usecase": context["params"]["usecase"],
            "reason": "quality" if lost else "drift",
            "why": "; ".join(reasons),
        }
        return reasons

    dataset = find_dataset()
    evaluate = step(
        "evaluate",
        given={
            "--model": "models:/{{ params.usecase }}@champion",
            "--dataset": "{{ ti.xcom_pull(task_ids='dataset') }}",
            "--fresh": "",
        },
    )
    monitor = step("monitor", trigger_rule="none_failed")
    dataset >> evaluate >> monitor
    ask(monitor.output)


monitor_model()
