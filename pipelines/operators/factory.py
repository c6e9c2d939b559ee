"""An Airflow task for a step of the table, in the mode of the deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from pipelines.assets import DEPLOYMENT
from pipelines.deployment import Mode
from pipelines.events import usecase_of
from pipelines.steps import BY_VERB, Feed, Step, arguments

RETRIES: Final = 3
PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(minutes=10)


def _operator(mode: Mode) -> Any:
    """The operator of a mode; the providers of the others are not imported."""
    if mode == "docker":
        from pipelines.operators.container import ContainerStep

        return ContainerStep
    if mode == "kubernetes":
        from pipelines.operators.pod import PodStep

        return PodStep
    from pipelines.operators.process import ProcessStep

    return ProcessStep


_OPERATOR: Final = _operator(DEPLOYMENT.mode)


class StepOperator(_OPERATOR):  # type: ignore[misc, valid-type]
    """A task that runs a step.

    Its XCom is the step's result, types intact. Data refused and wrong calls fail without a retry, what is out of reach
    for the moment is tried again, and what a refusal by the gate precedes is skipped.

    Args:
        verb: The step.
        given: Flag -> value, which may be a template; a value that turns out to be empty leaves the flag out. What is
            not given comes from the task of the step that feeds it, by its verb.
        tells: Keys of the result that go into the events of the task's outlets.
        notes: What goes into them besides; values may be templates.
        over: A flag that differs from one mapped task to the next.
        value: Its value.
        how: Airflow's own arguments, such as `outlets` and `trigger_rule`.

    Raises:
        ValueError: If there is no such step, or a flag is not one of its.
    """

    template_fields: Sequence[str] = (*_OPERATOR.template_fields, "line", "notes")

    def __init__(
        self,
        *,
        verb: str,
        given: Mapping[str, str] | None = None,
        tells: Sequence[str] = (),
        notes: Mapping[str, str] | None = None,
        over: str | None = None,
        value: str | None = None,
        **how: Any,
    ) -> None:
        if verb not in BY_VERB:
            raise ValueError(f"there is no step {verb}; there are {', '.join(BY_VERB)}")
        found = BY_VERB[verb]
        line = arguments(
            found,
            usecase="{{ task.usecase_of(params, triggering_asset_events) }}",
            store=DEPLOYMENT.store,
            results=_Pulled(found, given or {}),
            given=given or {},
        )
        super().__init__(step=found, deployment=DEPLOYMENT, **{**_usual(found), **how})
        self.line = line if over is None else [*line, over]
        self.value = value
        self.tells = tuple(tells)
        self.notes = dict(notes or {})

    usecase_of = staticmethod(usecase_of)


def step(verb: str, *, task_id: str | None = None, over: str | None = None, values: Any = None, **how: Any) -> Any:
    """A task that runs a step, or one for each of many values.

    Args:
        verb: The step.
        task_id: The task's id; None is the verb.
        over: A flag that differs from one mapped task to the next.
        values: Its values: the output of a task that returns a list of texts.
        how: As `StepOperator`.
    """
    name = task_id or verb
    if over is None:
        return StepOperator(task_id=name, verb=verb, **how)
    usual = {**_usual(BY_VERB[verb]), **how}
    return StepOperator.partial(task_id=name, verb=verb, over=over, **usual).expand(value=values)


def _usual(step: Step) -> dict[str, Any]:
    """How often a step is tried again, and after how long; and what it is."""
    return {
        "doc_md": f"`{step.command} {step.verb}`",
        "retries": RETRIES,
        "retry_delay": PAUSE,
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": LONGEST_PAUSE,
    }


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
