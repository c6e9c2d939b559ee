"""The main job as runs of Airflow's DAGs: what people's scenes set off, followed from event to event.

`ingest_scenes` is started; `build_dataset`, `train_model` and `deploy_model` follow from its events. The report is the
one of `pipelines.main_job`, out of the same results.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from pipelines.airflow_client import ENDED, AirflowClient, AirflowOutOfReach, DagRun
from pipelines.main_job import Job, reference_scene, report
from pipelines.runner import FAILURES, StepFailed
from pipelines.steps import BY_VERB

TICK: Final = 0.5
PATIENCE: Final = 60.0
"""Seconds in which Airflow may be silent."""
QUEUED: Final = 300.0
"""Seconds in which the run that an event makes must have begun: another run may be before it."""
DONE: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
Answer = TypeVar("Answer")
_EXIT: Final = re.compile(r"\(exit code (\d+)\)")


@dataclass
class AirflowJob:
    """One main job under a running Airflow.

    Attributes:
        job: What to do.
        client: Where.
        announce: Told of each step as it starts and ends.
        watch: Called while it waits; what it raises ends the job.
    """

    job: Job
    client: AirflowClient
    announce: Callable[[str], None]
    watch: Callable[[], None]
    _results: dict[str, dict[str, Any]] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _runs: dict[str, str] = field(default_factory=dict)
    _told: set[tuple[DagRun, str, str]] = field(default_factory=set)

    def run(self) -> dict[str, Any]:
        """Run it to its end.

        Returns:
            The report (its keys: design section 5), and `runs`: DAG -> the id of its run.

        Raises:
            StepFailed: If a step fails, in its own words.
        """
        began = time.monotonic()
        ingest = self._finish(self._start("ingest_scenes", self._ingest_conf()))
        dataset = self._finish(self._await_caused(ingest, "build_dataset"))
        train = self._train(dataset)
        self._deploy(train)
        chosen = {"scenes": [reference_scene(self._results)], **self._model()}
        self._finish(self._start("predict_scenes", chosen))
        self._seconds["total"] = round(time.monotonic() - began, 1)
        order = [verb for verb in (*BY_VERB, "total") if verb in self._seconds]
        seconds = {verb: self._seconds[verb] for verb in order}
        return {**report(self.job, self._results, seconds), "runs": dict(self._runs)}

    def _ingest_conf(self) -> dict[str, Any]:
        return {"simulate": self.job.simulated} if self.job.scenes is None else {"source": self.job.scenes}

    def _model(self) -> dict[str, str]:
        return {"model": str(self._results["train"]["model"])} if self.job.serve == "candidate" else {}

    def _train(self, dataset: DagRun) -> DagRun:
        """Follow the training that the dataset sets off; where nothing is new, or a cool-down holds, ask for it."""
        run = self._await_caused(dataset, "train_model")
        decision = self._await_task(run, "reason")
        if decision.get("action") != "train":
            self.announce(f"train_model: {decision.get('why')}; it is asked for by hand")
            run = self._start("train_model", {"dataset": self._results["chip"]["dataset"], "force": True})
        return self._finish(run)

    def _deploy(self, train: DagRun) -> None:
        promoted = any(one["task_id"] == "announce" and one["state"] == "success" for one in self._tasks(train))
        if promoted:
            self._finish(self._await_caused(train, "deploy_model"))
        if not promoted or self.job.serve == "candidate":
            self._finish(self._start("deploy_model", self._model()))

    def _start(self, dag: str, conf: Mapping[str, Any]) -> DagRun:
        run = self._patiently(
            lambda: self.client.trigger(dag, {"usecase": self.job.usecase, **conf}, "the main job of nox -s stack")
        )
        self._runs[dag] = run.run
        return run

    def _await_caused(self, run: DagRun, dag: str) -> DagRun:
        deadline = time.monotonic() + QUEUED
        while (found := self._patiently(lambda: self.client.caused(run, dag))) is None:
            if time.monotonic() > deadline:
                raise StepFailed(dag, f"{dag} was not started within {QUEUED:.0f} s of the end of {run.dag}")
            self._pause()
        self._runs[dag] = found.run
        return found

    def _await_task(self, run: DagRun, task: str) -> dict[str, Any]:
        """What a task says, also while its run goes on."""
        while True:
            found = next((one for one in self._tasks(run) if one["task_id"] == task), None)
            if found is not None and (found["state"] in DONE or found["state"] == "deferred"):
                return dict(self._patiently(lambda: self.client.xcom(run, task)) or {})
            self._pause()

    def _finish(self, run: DagRun) -> DagRun:
        """Follow a run to its end, tell what its steps do, and keep their results."""
        while (state := self._patiently(lambda: self.client.state(run))) not in ENDED:
            self._tell(run)
            self._pause()
        self._tell(run)
        tasks = self._tasks(run)
        if state == "failed":
            raise self._failure(run, tasks)
        for one in tasks:
            verb = one["task_id"]
            if verb not in BY_VERB:
                continue
            result = self._patiently(partial(self.client.xcom, run, verb, one["map_index"]))
            if isinstance(result, dict):
                self._results[verb] = result
                self._seconds[verb] = round(one["duration"] or 0.0, 1)
        return run

    def _tell(self, run: DagRun) -> None:
        for one in self._tasks(run):
            state, verb = one["state"], one["task_id"]
            if verb not in BY_VERB or state not in DONE | {"running", "up_for_retry"}:
                continue
            if (run, verb, state) not in self._told:
                self._told.add((run, verb, state))
                spent = f": {one['duration']:.1f} s" if state == "success" and one["duration"] else ""
                self.announce(f"{run.dag} / {verb} {'...' if state == 'running' else state}{spent}")

    def _failure(self, run: DagRun, tasks: list[dict[str, Any]]) -> StepFailed:
        """The first failed task's error, in its own words."""
        failed = next((one for one in tasks if one["state"] == "failed"), None)
        if failed is None:
            return StepFailed(run.dag, f"the run {run.run} of {run.dag} failed without a failed task")
        verb = str(failed["task_id"])
        try:
            lines = self.client.log(run, verb, failed["try_number"], failed["map_index"])
        except Exception as error:  # the log is an extra: without it the task is named all the same
            lines = [f"its log cannot be read: {error}"]
        said = next((line for line in reversed(lines) if _EXIT.search(line)), "")
        code = int(found[1]) if (found := _EXIT.search(said)) else 1
        message = said.partition(": ")[2] or "\n".join(["its log ends so:", *lines[-15:]])
        return FAILURES.get(code, StepFailed)(verb, f"{run.dag} / {message} (run {run.run})")

    def _tasks(self, run: DagRun) -> list[dict[str, Any]]:
        return self._patiently(lambda: self.client.tasks(run))

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask, and again while Airflow does not answer."""
        for last in self._attempts():
            try:
                return ask()
            except AirflowOutOfReach as error:
                if last:
                    raise StepFailed("airflow", str(error)) from error
            self._pause()
        raise AssertionError("unreachable")

    def _attempts(self) -> Iterator[bool]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            yield False
        yield True

    def _pause(self) -> None:
        self.watch()
        time.sleep(TICK)
