"""The main job: from scenes to a promoted model, an answering endpoint and one reference mask.

simulate (where no scenes are given), ingest, validate, chip, train, evaluate, promote, deploy (where there is
an endpoint), predict. A candidate that the gate refuses is an honest end: the champion goes on serving.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

from pipelines.runner import Outcome
from pipelines.steps import BY_VERB, STEPS, Step, arguments

Results = Mapping[str, Mapping[str, Any]]


class RunsSteps(Protocol):
    """What the main job needs of a runner."""

    def run(self, step: Step, arguments: Sequence[str]) -> Outcome:
        """Run a step to its end."""


@dataclass(frozen=True)
class Job:
    """What one main job is about.

    Attributes:
        usecase: Name or path of the use case.
        store: Root of the store, a URI.
        scenes: URI of a source of scenes; None simulates some.
        simulated: Folder for simulated scenes.
        endpoint: URL of the serving front; None leaves `deploy` out.
        serve: Which version answers and makes the reference mask: the champion, or the candidate whatever
            the gate said.
    """

    usecase: str
    store: str
    scenes: str | None
    simulated: str
    endpoint: str | None = None
    serve: Literal["champion", "candidate"] = "champion"


def run_main_job(
    job: Job,
    runner: RunsSteps,
    announce: Callable[[str], None],
    registry_ready: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run every step in order and collect the report (its keys: design section 5).

    Args:
        job: What to do.
        runner: How a step is run.
        announce: Told of each step as it starts and ends, for people.
        registry_ready: Called before each step that talks to the tracking server; returns when that answers.

    Returns:
        The report, ready for JSON.

    Raises:
        StepFailed: If a step fails; the report is lost, what earlier steps wrote stays.
    """
    results: dict[str, dict[str, Any]] = {}
    seconds: dict[str, float] = {}
    planned = [step for step in STEPS if not _left_out(step, job)]
    start = time.monotonic()
    for number, step in enumerate(planned, 1):
        if step.registry:
            registry_ready()
        announce(f"[{number}/{len(planned)}] {step.verb} ...")
        given = _given(step, job, results)
        line = arguments(step, usecase=job.usecase, store=job.store, results=results, given=given)
        outcome = runner.run(step, line)
        results[step.verb], seconds[step.verb] = outcome.result, round(outcome.seconds, 1)
        announce(f"[{number}/{len(planned)}] {step.verb}: {outcome.seconds:.1f} s{_remark(outcome)}")
    seconds["total"] = round(time.monotonic() - start, 1)
    return report(job, results, seconds)


def report(job: Job, results: Results, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The report of a job whose steps have all run."""
    ingest, validate, chip, train = (results[verb] for verb in ("ingest", "validate", "chip", "train"))
    evaluate, promote, predict = (results[verb] for verb in ("evaluate", "promote", "predict"))
    deployed = results.get("deploy")
    return {
        "usecase": job.usecase,
        "simulated": chip["simulated"],
        "scenes": {
            "accepted": len(validate["accepted"]),
            "refused": {**ingest["scenes"]["refused"], **validate["quarantined"]},
        },
        "labels": {"refused": ingest["labels"]["refused"]},
        "dataset": {"digest": chip["digest"], "uri": chip["dataset"], "chips": chip["chips"]},
        "model": {"version": train["version"], "digest": train["digest"], "uri": train["model"]},
        "iou": {key: evaluate["iou"][key] for key in ("candidate", "champion", "index", "index_untuned")},
        "gate": {"verdict": promote["gate"]["verdict"], "reasons": list(promote["gate"]["reasons"])},
        "champion": promote["champion"],
        "endpoint": deployed["endpoint"] if deployed else None,
        "served": {"model": predict["model"], "digest": predict["digest"]},
        "mask": {
            "digest": predict["mask_digest"],
            "uri": predict["mask"],
            "scene": reference_scene(results),
            "query": _query(predict["radiometry"]),
        },
        "quicklook": predict["quicklook"],
        "docs": validate["docs"],
        "seconds": dict(seconds),
    }


def _left_out(step: Step, job: Job) -> bool:
    if step is BY_VERB["simulate"]:
        return job.scenes is not None
    return step is BY_VERB["deploy"] and job.endpoint is None


def _given(step: Step, job: Job, results: Results) -> dict[str, str]:
    """The flags of a step that no earlier result feeds."""
    given: dict[str, str] = {}
    if step.verb == "simulate":
        given["--out"] = job.simulated
    if step.verb == "ingest" and job.scenes is not None:
        given["--source"] = job.scenes
    if step.verb == "deploy" and job.endpoint is not None:
        given["--endpoint"] = job.endpoint
    if step.verb == "predict":
        given["--scene"] = reference_scene(results)
    if step.verb in ("deploy", "predict") and job.serve == "candidate":
        given["--model"] = str(results["train"]["model"])
    return given


def reference_scene(results: Results) -> str:
    """The scene of the reference mask: the first accepted one by id, hence the same one in every run."""
    return str(min(results["validate"]["accepted"]))


def _query(radiometry: Mapping[str, Any]) -> str:
    """What a request must say of the bare raster to be read as `predict` read it: what only its STAC item says."""
    if not str(radiometry["source"]).startswith("stac"):
        return ""
    return "?" + urlencode({key: radiometry[key] for key in ("scale", "offset")})


def _remark(outcome: Outcome) -> str:
    if outcome.refused:
        return ", the gate refused the candidate"
    return ", was there already" if outcome.result.get("existing") is True else ""
