"""`python -m pipelines`, as nox calls it, with commands that pretend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import processes

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, root: Path, fake_environments: Callable[[Path], dict[str, Path]]) -> Start:
    """Start the pipeline in a folder of its own."""
    fake_environments(tmp_path / ".nox")
    (tmp_path / "usecases" / "water").mkdir(parents=True)
    (tmp_path / "usecases" / "water" / "usecase.yaml").touch()

    def make(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TERRALOOP_")}
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines", *arguments],
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(root), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return make


def test_it_prints_the_table_and_writes_the_report(start: Start, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    calling = start("--report", "report.json", TERRALOOP_CALLED_FROM=str(tmp_path / "elsewhere"))
    table, said = calling.communicate()
    assert calling.returncode == 0, said
    assert "IoU on test" in table
    assert "[8/8] predict: " in said
    report = json.loads((tmp_path / "elsewhere" / "report.json").read_text())
    assert (report["endpoint"], report["project"]) == (None, "pipeline")


def test_steps_find_the_registry_on_sqlite_and_the_store_in_the_project(start: Start, tmp_path: Path) -> None:
    calling = start("--project", "mine")
    _, said = calling.communicate()
    assert calling.returncode == 0, said
    folder = tmp_path / ".terraloop" / "mine"
    told = json.loads((folder / "logs" / "train.called").read_text())
    assert told["variables"]["MLFLOW_TRACKING_URI"] == f"sqlite:///{folder}/mlflow.db"
    assert told["argv"][3:5] == ["--store", (folder / "store").as_uri()]


def test_a_second_run_ends_well(start: Start) -> None:
    for _ in range(2):
        calling = start()
        _, said = calling.communicate()
        assert calling.returncode == 0, said


def test_a_failing_step_gives_its_exit_code_and_one_line(start: Start) -> None:
    calling = start(FAKE_VALIDATE="exit:3")
    table, said = calling.communicate()
    assert (calling.returncode, table) == (3, "")
    assert "pipeline: validate refused the data (exit code 3): fake validate: error: this is why" in said
    assert "Traceback" not in said


def test_a_wrong_use_case_is_refused_before_anything_starts(start: Start, tmp_path: Path) -> None:
    calling = start("--usecase", "snow")
    _, said = calling.communicate()
    assert (calling.returncode, said) == (2, "pipeline: --usecase snow: no such use case; there are water\n")
    assert not (tmp_path / ".terraloop").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing_running(start: Start, number: signal.Signals) -> None:
    mark = f"pipeline-{os.getpid()}-{number}"
    calling = start(FAKE_TRAIN="slow", TERRALOOP_RUN=mark)
    deadline = time.monotonic() + 60
    while len(processes.marked(mark)) < 3:  # the pipeline, the step, the step's child
        assert time.monotonic() < deadline
        time.sleep(0.05)
    calling.send_signal(number)
    _, said = calling.communicate()
    assert calling.returncode == 128 + number
    assert "nothing is left running" in said
    assert processes.marked(mark) == []


def test_two_runs_of_one_project_do_not_meet(start: Start) -> None:
    mark = f"pipeline-{os.getpid()}-two"
    first = start(FAKE_TRAIN="slow", TERRALOOP_RUN=mark)
    deadline = time.monotonic() + 60
    while len(processes.marked(mark)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = start()
    _, said = second.communicate()
    assert (second.returncode, "under way" in said) == (2, True)
    first.terminate()
    first.communicate()
