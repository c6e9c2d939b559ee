"""End a running stack, found without flags where there is one, and remove its data where that is asked for."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from infra.embedded import state
from infra.embedded.options import DEFAULT_PROJECT, Options
from infra.embedded.supervisor import GRACE
from infra.embedded.up import TOKEN_FILE
from pipelines import processes
from pipelines.project import Misuse, Project, find


def down(options: Options, root: Path) -> int:
    """End the stack that the options mean.

    Returns:
        0 when nothing of it runs any more, also where nothing ran before.

    Raises:
        Misuse: If several run and none was named.
    """
    run = _choose(options, root)
    project = find(root, run.project if run else options.project or DEFAULT_PROJECT)
    if run is None:
        named = f" of project {options.project}" if options.project else ""
        print(f"No stack{named} is running.")
    else:
        _end(run, project)
        print(f"The stack of project {project.name} has ended.")
    if options.purge:
        _purge(project, yes=options.yes)
    return 0


def _choose(options: Options, root: Path) -> state.Run | None:
    """The running stack that is meant; None if there is none."""
    running = state.all_running(root)
    if options.project is not None:
        running = [run for run in running if run.project == options.project]
    if len(running) > 1:
        names = ", ".join(run.project for run in running)
        raise Misuse(f"several stacks run ({names}): say which one with --project NAME")
    return running[0] if running else None


def _end(run: state.Run, project: Project) -> None:
    """End a run: its supervisor cleans up itself, then whatever is left goes."""
    if run.supervisor is not None and run.supervisor.alive():
        processes.ask_to_end(run.supervisor)
        deadline = time.monotonic() + 2 * GRACE
        while run.supervisor.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        processes.end([run.supervisor], grace=0)
    processes.end(run.processes(), grace=GRACE)
    processes.end(run.processes(), grace=0)  # what was started while the others ended
    state.forget(project)
    (project.folder / TOKEN_FILE).unlink(missing_ok=True)


def _purge(project: Project, *, yes: bool) -> None:
    """Remove a project's folder, after a question where somebody can answer."""
    if not project.folder.is_dir():
        print(f"There is nothing to remove at {project.folder}.")
        return
    if not yes and sys.stdin.isatty():
        answer = input(f"Remove {project.folder} with everything in it? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return
    shutil.rmtree(project.folder)
    print(f"Removed {project.folder}.")
    if not project.owns_store:
        print(
            f"Left alone: the store {project.store} (TERRALOOP_STORE). Its ledger names model versions that were "
            "in the removed registry: choose an empty store for the next stack."
        )
