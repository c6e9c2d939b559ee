"""The flags of `nox -s stack` (design section 5)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from infra.embedded import ports
from pipelines.project import Misuse

BODIES: Final = ("embedded", "compose", "minikube")
DEFAULT_PROJECT: Final = "terraloop"


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        usecase: Name or path of a use case.
        scenes: Source of scenes as typed; None simulates some.
        report: File for the closing table as JSON, as typed.
        smoke: Up, try everything, down, nothing left.
        detach: Return once the endpoint answers.
        serve: Which version answers.
        down: End the running stack.
        purge: Remove its data as well.
        yes: Do not ask before that.
        airflow: Whether Airflow is among the services and runs the main job.
        project: Name of the project; None is the default, and for `down` the running one.
        port_base: Port of MLflow; the others follow.
    """

    usecase: str
    scenes: str | None
    report: str | None
    smoke: bool
    detach: bool
    serve: Literal["champion", "candidate"]
    down: bool
    purge: bool
    yes: bool
    airflow: bool
    project: str | None
    port_base: int


def parse(argv: Sequence[str]) -> Options:
    """Read the flags.

    Raises:
        Misuse: If they contradict each other, or name a body that is not there yet.
    """
    values = vars(_parser().parse_args(argv))
    body = values.pop("body")
    if body != "embedded":
        raise Misuse(f"--body {body} is not there yet: use --body embedded")
    options = Options(**values)
    if options.purge and not options.down:
        raise Misuse("--purge removes the data of a stack that is being ended: use --down --purge")
    if options.smoke and (options.detach or options.down or options.project):
        raise Misuse("--smoke brings its own project and ends by itself: leave out --detach, --down, --project")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s stack --",
        description="The system on this machine: services, the main job once, every URL. Stays until Ctrl-C.",
    )
    flag = parser.add_argument
    flag("--body", choices=BODIES, default="embedded", help="how the services stand (embedded)")
    flag("--usecase", default="water", metavar="NAME", help="name or file of a use case (water)")
    flag("--scenes", metavar="URI", help="your scenes in place of the simulated ones")
    flag("--report", metavar="FILE", help="the closing table as JSON as well")
    flag("--smoke", action="store_true", help="temporary project: up, main job, requests, down, nothing left")
    flag("--detach", action="store_true", help="return when the main job has ended and /invocations answers")
    flag(
        "--serve",
        choices=("champion", "candidate"),
        default="champion",
        help="candidate: the endpoint answers with it whatever the gate said (champion)",
    )
    flag("--down", action="store_true", help="end the running stack")
    flag("--purge", action="store_true", help="with --down: remove its data too")
    flag("--yes", action="store_true", help="with --purge: do not ask (nobody is asked where there is no terminal)")
    flag(
        "--no-airflow",
        dest="airflow",
        action="store_false",
        help="without Airflow: the main job's steps as child processes, 1.2 GB less memory",
    )
    flag("--project", metavar="NAME", help=f"data lie in .terraloop/NAME ({DEFAULT_PROJECT})")
    flag(
        "--port-base",
        type=ports.base,
        default=ports.MLFLOW,
        metavar="N",
        help=f"MLflow on N, the endpoint on N+{ports.ENDPOINT - ports.MLFLOW}, "
        f"Airflow on N+{ports.AIRFLOW - ports.MLFLOW} ({ports.MLFLOW})",
    )
    return parser
