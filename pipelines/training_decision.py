"""The first task of `train_model`: says why the run was made and what becomes of it, and waits out a cool-down."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from pipelines.assets import CANDIDATE, DATASET, DEPLOYMENT
from pipelines.events import newest, triggering, usecase_of
from pipelines.retraining import Training, decide, find_reason

log = logging.getLogger(__name__)


class TrainingDecision(BaseOperator):  # type: ignore[misc]
    """Decides whether a reason to train leads to a training (`pipelines.retraining`).

    Its XCom is the decision. During a cool-down it waits without a worker and decides anew afterwards, on the newest
    dataset: a reason is not lost. Where nothing is to be done the run is skipped, and says why.
    """

    def execute(self, context: Any, event: Any = None) -> dict[str, Any]:
        """Decide; `event` is the trigger's when the wait is over.

        Raises:
            AirflowSkipException: If there is nothing to do.
        """
        usecase = usecase_of(context["params"], context["triggering_asset_events"])
        found = newest(context, DATASET, usecase=usecase)
        last = newest(context, CANDIDATE, existing=False, usecase=usecase)
        extra = last["extra"] if last else {}
        decision = decide(
            find_reason(context["dag_run"].run_type, triggering(context)),
            context["params"]["dataset"] or (found["extra"].get("dataset") if found else None),
            DEPLOYMENT.commit,
            Training(str(extra.get("dataset")), str(extra.get("commit", "")), last["time"]) if last else None,
            datetime.now(UTC),
            timedelta(hours=DEPLOYMENT.cooldown_hours),
            force=bool(context["params"]["force"]),
        )
        context["ti"].xcom_push(key="return_value", value=decision.as_json())
        log.info("%s: %s (%s)", decision.action, decision.why, decision.reason)
        if decision.until is not None:
            self.defer(trigger=DateTimeTrigger(moment=decision.until), method_name="execute")
        if decision.action == "no-op":
            raise AirflowSkipException(decision.why)
        return decision.as_json()
