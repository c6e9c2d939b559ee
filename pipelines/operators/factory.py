"""An Airflow task for a step of the table, in the mode of the deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from pipelines.assets import DEPLOYMENT
from pipelines.deployment import Deployment
from pipelines.steps import BY_VERB, Feed, Step, arguments

RETRIES: Final = 3
PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(minutes=10)


def step(
    verb: str,
    *,
    task_id: str | None = None,
    given: Mapping[str, str] | None = None,
    tells: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
    deployment: Deployment = DEPLOYMENT,
    mapped_over: str | None = None,
    values: Any = None,
    **how: Any,
) -> Any:
    """A task that runs a step.

    Args:
        verb: The step.
        task_id: The task's id; None is the verb.
        given: Flag -> value, which may be a template; a value that turns out to be empty leaves the flag out.
            What is not given comes from the task of the step that feeds it, by its verb.
        tells: Keys of the result that go into the events of the task's outlets.
        notes: What goes into them besides; values may be templates.
        deployment: How steps run.
        mapped_over: A flag that differs from one mapped task to the next.
        values: What it is then: the output of a task that returns a list of texts.
        how: Airflow's own arguments, such as `outlets` and `trigger_rule`.

    Returns:
        The operator; its XCom is the step's result, types intact. Data refused and wrong calls fail without a retry,
        what is out of reach for the moment is tried again, and what a refusal by the gate precedes is skipped.

    Raises:
        ValueError: If a flag is not one of the step's.
    """
    found = BY_VERB[verb]
    line = arguments(
        found,
        usecase="{{ params.usecase }}",
        store=deployment.store,
        results=_Pulled(found, given or {}),
        given=given or {},
    )
    common: dict[str, Any] = {
        "task_id": task_id or verb,
        "retries": RETRIES,
        "retry_delay": PAUSE,
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": LONGEST_PAUSE,
        "doc_md": f"`{found.command} {verb}`",
        **how,
    }
    operator = _operator(deployment)
    fixed = {"step": found, "deployment": deployment, "tells": tuple(tells), "notes": dict(notes or {})}
    if mapped_over is None:
        return operator(line=line, **fixed, **common)
    return operator.partial(line=[*line, mapped_over], **fixed, **common).expand(value=values)


class _Pulled(Mapping[str, Mapping[str, str]]):
    """Results of earlier steps as templates that pull them from their tasks."""

    def __init__(self, step: Step, given: Mapping[str, str]) -> None:
        self._feeds = [feed for flag, feed in step.feeds.items() if flag not in given]

    def __getitem__(self, verb: str) -> Mapping[str, str]:
        return {feed.key: _template(feed) for feed in self._feeds if feed.step == verb}

    def __iter__(self) -> Iterator[str]:
        return iter({feed.step for feed in self._feeds})

    def __len__(self) -> int:
        return len({feed.step for feed in self._feeds})


def _template(feed: Feed) -> str:
    return f"{{{{ ti.xcom_pull(task_ids='{feed.step}')['{feed.key}'] }}}}"


def _operator(deployment: Deployment) -> Any:
    """The operator of a mode; the providers of the others are not imported."""
    if deployment.mode == "docker":
        from pipelines.operators.container import ContainerStep

        return ContainerStep
    if deployment.mode == "kubernetes":
        from pipelines.operators.pod import PodStep

        return PodStep
    from pipelines.operators.process import ProcessStep

    return ProcessStep
