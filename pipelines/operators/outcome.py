"""What a step's end means for its task: the one place where exit codes become Airflow's words (design 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from pipelines.steps import EXIT_CODES, GATE_REFUSED, TEMPORARY

if TYPE_CHECKING:
    from pipelines.operators.step_task import StepTask


def conclude(task: StepTask, context: Any, code: int, result: Mapping[str, Any] | None, said: str) -> dict[str, Any]:
    """What the task returns; the events of its outlets get what they are to tell.

    Args:
        task: The operator.
        context: Airflow's.
        code: Its exit code; negative where a signal ended it.
        result: What it left; None where it left nothing.
        said: Its last words.

    Raises:
        AirflowSkipException: If the gate refused; the result is kept as the task's XCom.
        AirflowFailException: If trying again does not help.
        AirflowException: If it may: something was out of reach, or the step was killed.
    """
    verb = task.step.verb
    if code == GATE_REFUSED and result is not None:
        context["ti"].xcom_push(key="return_value", value=dict(result))
        reasons = "; ".join(map(str, result.get("gate", {}).get("reasons", ())))
        raise AirflowSkipException(f"{verb} {EXIT_CODES[code]}: {reasons or said}")
    if code == 0:
        if result is None:
            raise AirflowFailException(f"{verb} ended well but left no result")
        for outlet in task.outlets:
            told = {key: result[key] for key in task.tells if key in result}
            usecase = task.line[task.line.index("--usecase") + 1]
            context["outlet_events"][outlet].extra = {"usecase": usecase, **task.notes, **told}
        return dict(result)
    meaning = f"was ended by signal {-code}" if code < 0 else EXIT_CODES.get(code, EXIT_CODES[1])
    again = code == TEMPORARY or code < 0 or code in (128 + 9, 128 + 15)  # engines count a signal's end so
    raise (AirflowException if again else AirflowFailException)(f"{verb} {meaning} (exit code {code}): {said}")
