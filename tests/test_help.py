"""`--help` of every command and step answers, without loading what makes a start slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.steps import STEPS, Step

ROOT = Path(__file__).parents[1]
HEAVY = {
    "torch",
    "lightning",
    "great_expectations",
    "mlflow",
    "matplotlib",
    "mlserver",
    "optuna",
    "pandas",
    "onnxruntime",
    "rasterio",
    "xarray",
    "transformers",
    "pyarrow",
    "scipy",
}
PROBE = """
import contextlib, importlib, json, os, sys
sys.argv = sys.argv[1:]
module, _, function = sys.argv.pop(1).partition(":")
code = None
with contextlib.redirect_stdout(sys.stderr):
    try:
        code = getattr(importlib.import_module(module), function)()
    except SystemExit as end:
        code = end.code
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"code": code or 0, "modules": modules, "waiting": os.environ.get("OMP_WAIT_POLICY")}))
"""
COMMANDS = {"eo-data": "eo_data.cli:main", "eo-models": "eo_models.cli:main", "eo-serving": "eo_serving.cli:main"}
CALLS = [(command, "--help") for command in COMMANDS] + [(step.command, step.verb, "--help") for step in STEPS]
CALLS += [("eo-serving", verb, "--help") for verb in ("serve", "monitor")]
FOR_HANDS = ("baseline", "trace", "tune", "rollback", "export", "import", "select-best", "send-runs")
CALLS += [("eo-models", verb, "--help") for verb in FOR_HANDS]


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_help_answers_and_loads_nothing_heavy(call: tuple[str, ...]) -> None:
    command, *arguments = call
    line = [sys.executable, "-W", "error::SyntaxWarning", "-c", PROBE, "probe", COMMANDS[command], *arguments]
    answer = subprocess.run(line, capture_output=True, text=True, check=False)
    assert answer.stdout, answer.stderr
    told = json.loads(answer.stdout)
    assert told["code"] == 0
    assert "usage: " in answer.stderr
    assert HEAVY & set(told["modules"]) == set()


@pytest.mark.parametrize("step", ["train", "tune"])
def test_a_wrong_setting_is_said_before_torch_is_loaded(step: str, tmp_path: Path) -> None:
    """OpenMP's variable is read as torch is loaded: it is set by then."""
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())
    sections["train"]["precision"] = "float16"
    (tmp_path / "usecase.yaml").write_text(yaml.safe_dump(sections))
    flags = ["--usecase", str(tmp_path), "--store", str(tmp_path / "store"), "--dataset", "datasets/none"]
    line = [sys.executable, "-c", PROBE, "probe", COMMANDS["eo-models"], step, *flags]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    answer = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    told = json.loads(answer.stderr.splitlines()[-1])  # a step leaves stdout to its result
    assert told["code"] == 2
    assert "train.precision" in answer.stderr
    assert {"torch", "lightning"} & set(told["modules"]) == set()
    assert told["waiting"] == "PASSIVE"


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.verb)
def test_help_names_every_flag_of_the_table(step: Step) -> None:
    line = [sys.executable, "-c", PROBE, "probe", COMMANDS[step.command], step.verb, "--help"]
    answer = subprocess.run(line, capture_output=True, text=True, check=True)
    stored = ("--store",) if step.stores else ()
    for flag in ("--usecase", "--result", *stored, *step.feeds, *step.settings):
        assert flag in answer.stderr, f"{step.command} {step.verb} takes no {flag}"
