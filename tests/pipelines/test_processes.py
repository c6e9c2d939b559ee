"""Processes are recognised and ended, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import processes
from pipelines.processes import Identity

IDLE = "import time; time.sleep(600)"
POLITE = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); print(flush=True); " + IDLE
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)


def start(code: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], text=True, **more)  # type: ignore[call-overload, no-any-return]


def test_a_process_is_known_by_its_start_too() -> None:
    child = start(IDLE)
    identity = processes.identify(child.pid)
    assert identity.alive()
    assert not Identity(child.pid, "another time").alive()
    child.kill()
    child.wait()
    assert not identity.alive()


def test_a_zombie_does_not_run() -> None:
    child = start("pass")
    identity = processes.identify(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet collected
    assert not identity.alive()
    child.wait()


def test_a_recycled_id_is_left_alone() -> None:
    child = start(IDLE, start_new_session=True)
    processes.end([Identity(child.pid, "another time")], grace=0)
    processes.ask_to_end(Identity(child.pid, "another time"))
    assert child.poll() is None
    child.kill()
    child.wait()


def test_ending_asks_first() -> None:
    child = start(POLITE, start_new_session=True, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
        processes.end([processes.identify(child.pid)], grace=20)
    assert child.wait() == 5


def test_who_does_not_listen_is_killed() -> None:
    child = start(STUBBORN, start_new_session=True, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
        processes.end([processes.identify(child.pid)], grace=0.2)
    assert child.wait() == -signal.SIGKILL


def test_a_group_goes_with_its_leader(tmp_path: Path) -> None:
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {IDLE!r}]); print(p.pid, flush=True)"
    leader = start(code, start_new_session=True, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    identity = processes.identify(leader.pid)
    with leader.stdout:
        orphan = processes.identify(int(leader.stdout.readline()))
    leader.wait()
    assert orphan.alive()
    processes.end([identity], grace=1)
    for _ in range(500):
        if not orphan.alive():
            break
        signal.sigtimedwait([], 0.02)
    assert not orphan.alive()


@pytest.mark.skipif(not processes.PROC.is_dir(), reason="needs /proc")
def test_marked_processes_are_found_in_whatever_session() -> None:
    variables = {**os.environ, processes.RUN_VARIABLE: "mark-1"}
    children = [start(IDLE, env=variables), start(IDLE, env=variables, start_new_session=True)]
    other = start(IDLE, env={**os.environ, processes.RUN_VARIABLE: "mark-11"})
    found = processes.marked("mark-1")
    assert {process.pid for process in found} == {child.pid for child in children}
    processes.end(found, grace=5)
    assert all(child.wait() == -signal.SIGTERM for child in children)
    assert other.poll() is None
    other.kill()
    other.wait()
