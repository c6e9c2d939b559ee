"""Runs in Airflow's environment: executes a step's operator in the mode of the variables and prints what came of it."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from pipelines.operators import StepOperator


class Instance(SimpleNamespace):
    """As much of a task instance as operators ask for outside a task."""

    pushed: dict[str, Any] = {}  # noqa: RUF012  one instance in this process

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep it."""
        self.pushed[key] = value


def main() -> None:
    """Execute it."""
    task = StepOperator(task_id="deploy", verb="deploy", given={"--endpoint": sys.argv[1], "--model": ""})
    task.line = ["water" if "usecase_of" in word else word for word in task.line]
    instance = Instance(task_id="deploy", dag_id="d", run_id="r", map_index=-1, try_number=1, id="i")
    context = {"ti": instance, "task_instance": instance, "outlet_events": {}, "params": {}, "dag_run": None,
               "run_id": "r", "task": task}  # fmt: skip
    said: dict[str, Any] = {}
    try:
        said["result"] = task.execute(context)
    except AirflowSkipException as skip:
        said |= {"end": "skip", "why": str(skip), "result": instance.pushed.get("return_value")}
    except AirflowFailException as failure:
        said |= {"end": "fail", "why": str(failure)}
    except AirflowException as failure:
        said |= {"end": "again", "why": str(failure)}
    print("\n" + json.dumps(said))


if __name__ == "__main__":
    main()
