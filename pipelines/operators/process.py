"""A step as a child process of the task (mode `process`)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator

from pipelines.deployment import Deployment
from pipelines.operators.outcome import conclude
from pipelines.operators.step_task import StepTask
from pipelines.runner import Runner, last_words
from pipelines.steps import Step


class ProcessStep(StepTask, BaseOperator):  # type: ignore[misc]
    """Runs a step's command; what it says is the task's log, while it says it.

    Args:
        step: The step.
        deployment: How steps run.
        kwargs: Airflow's own.
    """

    ui_color = "#e8f1ec"

    def __init__(self, *, step: Step, deployment: Deployment, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.deployment = deployment

    def execute(self, context: Any) -> dict[str, Any]:
        """Run it to its end; its result."""
        lines = _Lines(self.log.info)
        with tempfile.TemporaryDirectory(prefix="terraloop-task-") as folder:
            runner = Runner(
                environments={name: self.deployment.environments / name / "bin" for name in ("train", "serve")},
                folder=Path(folder),
                variables={**self.deployment.variables, **self.deployment.secrets},
                inherited=step_environment(os.environ),
                echo=lines.add,
                leashed=True,
            )
            try:
                end = runner.attempt(self.step, self.words())
            finally:
                lines.end()
            said = last_words(end.log)
        return conclude(self, context, end.code, end.result, said)


def step_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What a step sees of a task's variables: which task it belongs to, and none of Airflow's own settings.

    Those hold the database's address and the keys by which components trust each other.
    """
    kept = {"AIRFLOW__API__BASE_URL"}
    return {
        name: value
        for name, value in variables.items()
        if name in kept or not (name.startswith(("AIRFLOW__", "_AIRFLOW")) or name in {"PYTHONPATH", "AIRFLOW_HOME"})
    }


class _Lines:
    """Text as it comes, passed on line by line; of a line that is written over, what stands in the end."""

    def __init__(self, say: Any) -> None:
        self._say = say
        self._open = ""

    def add(self, text: str) -> None:
        *whole, self._open = (self._open + text).split("\n")
        for line in whole:
            self._tell(line)

    def end(self) -> None:
        self._tell(self._open)
        self._open = ""

    def _tell(self, line: str) -> None:
        last = line.rstrip("\r").rpartition("\r")[2].rstrip()
        if last:
            self._say("%s", last)
