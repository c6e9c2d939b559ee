"""Processes that were started here: recognised later without doubt, and ended without leftovers.

A process is known by its id *and* its start time, since ids are used again. Everything that is started gets a
session of its own, so that its children can be ended with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_PR_SET_PDEATHSIG: Final = 1
RUN_VARIABLE: Final = "TERRALOOP_RUN"
"""Marks every process of one run, whatever sessions its descendants open."""


@dataclass(frozen=True)
class Identity:
    """A process that can be told from a later one with the same id.

    Attributes:
        pid: The process id, and that of its session and group.
        started: Its start time as the system tells it, comparable for equality only.
    """

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> str | None:
    """When a process was started, as the system tells it; None if there is no such running process."""
    if PROC.is_dir():
        try:
            line = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The name in parentheses may hold anything: count from its closing one. State is 3rd, start time 22nd.
        fields = line.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def identify(pid: int) -> Identity:
    """The identity of a process that was just started and not yet waited for."""
    return Identity(pid, start_time(pid) or "ended")


def marked(run: str) -> list[Identity]:
    """Every process that carries the mark of a run, whatever became of its parents (without /proc: none)."""
    wanted = f"{RUN_VARIABLE}={run}".encode()
    found = []
    for pid in _all_pids():
        try:
            variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # another user's, or gone
        if wanted in variables and pid != os.getpid() and (started := start_time(pid)) is not None:
            found.append(Identity(pid, started))
    return found


def end(processes: Iterable[Identity], *, grace: float) -> None:
    """End processes and their groups: SIGTERM, some time, SIGKILL. Returns when none of them runs.

    Args:
        processes: What to end; those that have ended are left alone, their groups are swept all the same.
        grace: Seconds between the two.
    """
    everyone = list(processes)
    for process in everyone:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while any(process.alive() for process in everyone) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in everyone:
        _signal(process, signal.SIGKILL)
    while any(process.alive() for process in everyone):
        time.sleep(0.02)


def ask_to_end(process: Identity) -> None:
    """Send SIGTERM to one process alone: it ends its children itself."""
    if process.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)


def sweep_group(leader: Identity) -> None:
    """Kill what is left of a group whose leader has ended."""
    if not leader.alive() and _group_is_orphaned(leader):
        _to_group(leader.pid, signal.SIGKILL)


def _all_pids() -> Iterator[int]:
    if PROC.is_dir():
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _signal(process: Identity, number: signal.Signals) -> None:
    """Signal a process's group if it leads one, else the process, else what is left of its group."""
    if process.alive():
        try:
            leads = os.getpgid(process.pid) == process.pid
            (os.killpg if leads else os.kill)(process.pid, number)
        except ProcessLookupError:
            pass
    else:
        sweep_group(process)


def _group_is_orphaned(leader: Identity) -> bool:
    """Whether no new process took the leader's id: only then is the group of that id still ours."""
    return start_time(leader.pid) is None


def _to_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def die_with_parent() -> None:
    """Called in a new child: the system kills it once the thread that started it has ended (Linux; else nothing)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
