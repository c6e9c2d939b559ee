"""`nox -s pipeline`: the loop as child processes, MLflow on SQLite, no services and no endpoint."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines import report
from pipelines.interruption import Interrupted, check_parent, interruptible
from pipelines.main_job import Job, run_main_job
from pipelines.project import Misuse, Project, as_path, as_source, as_usecase, find
from pipelines.runner import Runner, StepFailed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the main job without services and print its table.

    Returns:
        0 when every step ended well, also where the gate refused the candidate; else the step's exit code.
    """
    options = _parser().parse_args(argv)
    try:
        with interruptible():
            return _run(options)
    except Misuse as misuse:
        return _stop(str(misuse), 2)
    except StepFailed as failure:
        return _stop(str(failure), failure.exit_code)
    except Interrupted as interruption:
        return _stop(f"interrupted ({interruption}); nothing is left running", interruption.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s pipeline --", description=__doc__)
    flag = parser.add_argument
    flag("--usecase", default="water", metavar="NAME", help="name or file of a use case (water)")
    flag("--scenes", metavar="URI", help="your scenes in place of the simulated ones")
    flag("--report", metavar="FILE", help="the closing table as JSON as well")
    flag("--project", default="pipeline", metavar="NAME", help="data lie in .terraloop/NAME (pipeline)")
    flag("--environments", type=Path, default=Path(".nox"), help=argparse.SUPPRESS)
    return parser


def _run(options: argparse.Namespace) -> int:
    project = find(Path.cwd(), options.project)
    report_file = as_path(options.report) if options.report else None
    if report_file is not None:
        report.check(report_file)
    job = Job(
        usecase=as_usecase(options.usecase, Path.cwd()),
        store=project.store,
        scenes=as_source(options.scenes),
        simulated=str(project.simulated),
    )
    project.claim("pipeline")
    with project.alone():
        found = run_main_job(job, _runner(project, options.environments), announce=_announce)
    found = {"project": project.name, "body": None, **found}
    if report_file is not None:
        report.write(found, report_file)
    print(report.table(found), flush=True)
    return 0


def _runner(project: Project, environments: Path) -> Runner:
    return Runner(
        environments={name: environments.resolve() / name / "bin" for name in ("train", "serve")},
        folder=project.logs,
        variables={
            **project.survivors,
            "MLFLOW_TRACKING_URI": project.database,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": project.artifacts,  # without it MLflow writes ./mlruns
        },
        watch=check_parent,
    )


def _announce(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _stop(message: str, code: int) -> int:
    print(f"pipeline: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
