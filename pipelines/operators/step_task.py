"""What an operator that runs a step knows of it, in every mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.steps import Step, without_empty


class StepTask:
    """A part of each mode's operator; `StepOperator` fills it in.

    Attributes:
        step: The step.
        line: Its verb and flags; templates are filled in before it runs.
        value: Of the line's last flag, where tasks are mapped over it; None where the line is whole.
        tells: Keys of the result that go into the events of the outlets.
        notes: What goes into them besides; templates are filled in.
        outlets: The task's assets (Airflow's own attribute).
    """

    step: Step
    line: list[str]
    value: str | None
    tells: Sequence[str]
    notes: dict[str, str]
    outlets: list[Any]

    def words(self) -> list[str]:
        """The step's arguments as they are called: filled in, without what turned out to be empty."""
        return without_empty([*self.line, *([] if self.value is None else [self.value])])
