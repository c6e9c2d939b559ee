"""A reason to train leads to a candidate, a judgement and, where the gate says so, another champion."""

from __future__ import annotations

from typing import Any

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, chain, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from pipelines import parameters
from pipelines.approval import APPROVER, approval
from pipelines.assets import CANDIDATE, CHAMPION, DATASET, DEPLOYMENT, RETRAINING
from pipelines.events import usecase_of
from pipelines.operators import step
from pipelines.training_decision import TrainingDecision

EVENTS = DATASET | RETRAINING
SCHEDULE = (
    AssetOrTimeSchedule(timetable=CronTriggerTimetable(DEPLOYMENT.schedule, timezone="UTC"), assets=EVENTS)
    if DEPLOYMENT.schedule
    else EVENTS
)


@dag(
    description="Train, evaluate and judge a candidate; the gate decides who is champion",
    schedule=SCHEDULE,
    catchup=False,
    max_active_runs=16,  # a run that waits for the end of a cool-down must not keep others from starting
    tags=["terraloop", "model"],
    default_args={"owner": "terraloop"},
    params={
        "usecase": parameters.usecase(),
        "dataset": parameters.uri("Dataset", "What to train on; empty is the newest"),
        "force": parameters.switch("Force", "Train although nothing has changed"),
    },
)
def train_model() -> None:
    """Runs for any of five reasons: by hand, by the calendar, new data, drift, a drop in quality."""

    @task(outlets=[CHAMPION])
    def announce(promoted: dict[str, Any], **context: Any) -> str:
        """Tell that there is another champion."""
        if promoted["entry"] is None:
            raise AirflowSkipException(f"the champion stays: {'; '.join(promoted['gate']['reasons'])}")
        context["outlet_events"][CHAMPION].extra = {
            "usecase": usecase_of(context["params"], context["triggering_asset_events"]),
            "champion": promoted["champion"],
            "verdict": promoted["gate"]["verdict"],
        }
        return str(promoted["champion"])

    reason = TrainingDecision(task_id="reason", inlets=[DATASET, CANDIDATE])
    dataset = "{{ ti.xcom_pull(task_ids='reason')['dataset'] }}"
    train = step(
        "train",
        given={"--dataset": dataset},
        outlets=[CANDIDATE],
        tells=("model", "digest", "existing"),
        notes={"dataset": dataset, "commit": DEPLOYMENT.commit},
        max_active_tis_per_dag=1,  # of two runs on one dataset the second finds what the first has trained
    )
    evaluate = step("evaluate", given={"--dataset": dataset})
    promote = step("promote", given={"--approved-by": APPROVER})
    chain(reason, train, evaluate, *approval(DEPLOYMENT.approval_hours), promote)
    announce(promote.output)


train_model()
