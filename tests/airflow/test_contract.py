"""One step in every mode gives the same result and the same ends: processes, containers of a real engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.test_dags import airflow_python

STEP = Path(__file__).parent / "pretended_step.py"
BASE = "python:3.11-slim-bookworm"
STRANGE = {
    "number": 3,
    "nothing": None,
    "yes": False,
    "text": 'it\'s "quoted" {{ 7 }} ü 水',
    "nested": {"list": [1, 2.5, None]},
}
REFUSED = {"gate": {"verdict": "refused", "reasons": ["too few cells"]}}
ENDS = [
    pytest.param({"result": STRANGE, "late": "Exception ignored in: <function>"}, None, id="done"),
    pytest.param({"exit": 2, "says": "no such flag"}, "fail", id="usage"),
    pytest.param({"exit": 3, "says": "wrong bands"}, "fail", id="data"),
    pytest.param({"exit": 4, "says": "too few cells", "result": {**STRANGE, **REFUSED}}, "skip", id="gate"),
    pytest.param({"exit": 75, "says": "store away"}, "again", id="temporary"),
    pytest.param({"exit": 1, "says": "a bug"}, "fail", id="unexpected"),
]

RunStep = Callable[[Mapping[str, Any]], Any]


def by_process(folder: Path) -> Iterator[RunStep]:
    place = folder / "environments" / "serve" / "bin"
    place.mkdir(parents=True)
    source = STEP.read_text(encoding="utf-8").replace("parents[2]", "parents[3]")
    (place / "eo-serving").write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
    (place / "eo-serving").chmod(0o755)

    def run(plan: Mapping[str, Any]) -> Any:
        (folder / "plan.json").write_text(json.dumps({"deploy": plan}), encoding="utf-8")
        (folder / "calls.jsonl").write_text("", encoding="utf-8")
        return airflow_python(folder, "run_step.py", "http://e", TERRALOOP_ENVIRONMENTS=str(folder / "environments"))

    yield run


def by_container(folder: Path) -> Iterator[RunStep]:
    """An image of the pretended step; its plan is baked in, so that each plan is an image of its own."""
    docker = shutil.which("docker") or "false"
    if subprocess.run([docker, "image", "inspect", BASE], capture_output=True, check=False).returncode:
        pytest.skip(f"containers are not run: no Docker engine answers, or it has no image {BASE}")
    tags: list[str] = []
    (folder / "eo-serving").write_text(f"#!/usr/local/bin/python\n{STEP.read_text(encoding='utf-8')}", encoding="utf-8")

    def run(plan: Mapping[str, Any]) -> Any:
        tag = f"terraloop-contract:{uuid.uuid4().hex[:12]}"
        tags.append(tag)
        (folder / "plan.json").write_text(json.dumps({"deploy": plan}), encoding="utf-8")
        (folder / "Dockerfile").write_text(
            f"FROM {BASE}\nCOPY --chmod=755 eo-serving /srv/step/bin/eo-serving\nCOPY plan.json /srv/plan.json\n"
            "RUN touch /srv/calls.jsonl && chmod 666 /srv/calls.jsonl\nENV PATH=/srv/step/bin:$PATH\nUSER 65534\n",
            encoding="utf-8",
        )
        subprocess.run([docker, "build", "-q", "-t", tag, str(folder)], check=True, capture_output=True)
        return airflow_python(
            folder,
            "run_step.py",
            "http://e",
            TERRALOOP_STEP_MODE="docker",
            TERRALOOP_IMAGE_TRAIN=tag,
            TERRALOOP_IMAGE_SERVE=tag,
        )

    yield run
    subprocess.run([docker, "image", "rm", "-f", *tags], capture_output=True, check=False)


@pytest.fixture(scope="module", params=[by_process, by_container], ids=["process", "docker"])
def run_step(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunStep]:
    yield from request.param(tmp_path_factory.mktemp("contract"))


@pytest.mark.parametrize(("plan", "end"), ENDS)
def test_a_step_ends_alike_in_every_mode(run_step: RunStep, plan: dict[str, Any], end: str | None) -> None:
    said = run_step(plan)
    assert said.get("end") == end
    if end in (None, "skip"):
        assert {key: said["result"][key] for key in STRANGE} == STRANGE
        assert said["result"]["endpoint"] == "http://e/invocations"
    if end is not None:
        assert f"{plan['says']}" in said["why"]
