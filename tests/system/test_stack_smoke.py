"""The whole system, as a user starts it: real services, real training, real requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import environments
from infra.embedded import preflight

STEPS = {"simulate", "ingest", "validate", "chip", "train", "evaluate", "promote", "deploy", "predict"}


@pytest.mark.system
def test_smoke(root: Path, tmp_path: Path) -> None:
    missing = [name for name in preflight.ENVIRONMENTS if not environments.up_to_date(name)]
    if missing:
        pytest.skip(f"the environments {', '.join(missing)} are not made: run `nox -s test`")
    projects = set((root / ".terraloop").glob("*"))
    report = tmp_path / "report.json"
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("TERRALOOP_", "MLFLOW_"))}
    answer = subprocess.run(
        [sys.executable, "-m", "infra.embedded", "--smoke", "--report", str(report)],
        cwd=root,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{answer.stdout}\n{answer.stderr[-20000:]}"
    assert answer.returncode == 0, said
    assert answer.stdout.endswith("smoke: everything held, nothing is left\n")
    assert "FAILED" not in answer.stdout
    assert set((root / ".terraloop").glob("*")) == projects

    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["simulated"] is True
    assert found["scenes"]["accepted"] > 0
    assert found["gate"]["verdict"] in ("promoted", "refused")  # the simulator is not tuned to the gate
    # On a first run the index is champion, and the gate's word decides who answers.
    assert found["iou"]["champion"] == found["iou"]["index"]
    promoted = found["gate"]["verdict"] == "promoted"
    assert (found["served"]["digest"] == found["model"]["digest"]) is promoted
    assert found["endpoint"].endswith("/invocations")
    assert {len(found[key]["digest"]) for key in ("dataset", "model", "mask")} == {64}
    assert set(found["seconds"]) >= STEPS
