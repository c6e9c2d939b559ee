"""The main job, with real child processes that pretend (tests/fake_command.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.main_job import Job, run_main_job
from pipelines.runner import Runner, StepFailed, StepRefusedData

Run = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture
def run(tmp_path: Path, fake_environments: Callable[[Path], dict[str, Path]]) -> Run:
    """Run a main job; its report and the folder of its steps' calls."""
    environments = fake_environments(tmp_path / "environments")

    def make(
        announce: Callable[[str], None] = lambda line: None,
        registry_ready: Callable[[], None] = lambda: None,
        **more: Any,
    ) -> tuple[dict[str, Any], Path]:
        chosen: dict[str, Any] = {"scenes": None, **more}
        job = Job(usecase="water", store="file:///s", simulated="/sim", **chosen)
        runner = Runner(environments, tmp_path / "logs", pauses=())
        return run_main_job(job, runner, announce, registry_ready), tmp_path / "logs"

    return make


def call(logs: Path, verb: str) -> list[str]:
    """The arguments that a step was called with, without its verb and `--result`."""
    return list(json.loads((logs / f"{verb}.called").read_text())["argv"][1:-2])


def called(logs: Path) -> set[str]:
    return {path.stem for path in logs.glob("*.called")}


def test_without_an_endpoint_everything_but_deploy_runs(run: Run) -> None:
    found, logs = run()
    assert called(logs) == {"simulate", "ingest", "validate", "chip", "train", "evaluate", "promote", "predict"}
    assert found["endpoint"] is None
    assert "deploy" not in found["seconds"]


def test_each_result_feeds_the_next_step(run: Run) -> None:
    _, logs = run()
    dataset = "file:///sim#batch#verdicts#dataset"
    assert call(logs, "ingest")[-2:] == ["--source", "file:///sim"]
    assert call(logs, "evaluate")[-4:] == ["--model", "models:/water/2", "--dataset", dataset]
    assert call(logs, "promote")[-2:] == ["--evaluation", f"models:/water/2|{dataset}"]


def test_given_scenes_take_the_place_of_simulated_ones(run: Run) -> None:
    found, logs = run(scenes="s3://scenes")
    assert "simulate" not in called(logs)
    assert call(logs, "ingest")[-2:] == ["--source", "s3://scenes"]
    assert found["simulated"] is False
    assert "simulate" not in found["seconds"]


def test_the_first_steps_do_not_wait_for_the_tracking_server(run: Run) -> None:
    told: list[str] = []
    run(told.append, lambda: told.append("registry ready"))
    assert "[5/8] train ..." in told
    assert told.index("registry ready") == told.index("[5/8] train ...") - 1
    assert [told[at - 1] for at, line in enumerate(told) if line == "[6/8] evaluate ..."] == ["registry ready"]


def test_the_reference_mask_is_of_the_first_scene_by_id(run: Run) -> None:
    found, logs = run()
    assert call(logs, "predict")[-2:] == ["--scene", "a"]
    assert found["mask"]["scene"] == "a"


def test_the_report_has_the_keys_that_others_rely_on(run: Run) -> None:
    found, _ = run(endpoint="http://127.0.0.1:5002")
    assert found["scenes"] == {"accepted": 2, "refused": {"junk": "no raster", "dark": "all nodata"}}
    assert found["labels"] == {"refused": {"a": "another size"}}
    assert found["dataset"]["digest"] == "d" * 64
    assert (found["model"]["version"], found["model"]["digest"]) == (2, "c" * 64)
    assert found["iou"] == {"candidate": 0.75, "champion": 0.5, "index": 0.5, "index_untuned": None}
    assert found["gate"] == {"verdict": "promoted", "reasons": ["above both"]}
    assert found["endpoint"] == "http://127.0.0.1:5002/invocations"
    assert found["mask"]["digest"] == "e" * 64
    assert found["quicklook"] == "file:///s/predictions/a/quicklook.png"
    verbs = {"simulate", "ingest", "validate", "chip", "train", "evaluate", "promote", "deploy", "predict", "total"}
    assert set(found["seconds"]) == verbs
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_refused_candidate_is_an_honest_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GATE", "refused")
    found, logs = run(endpoint="http://127.0.0.1:5002")
    assert found["gate"] == {"verdict": "refused", "reasons": ["not above the index", "too few cells"]}
    assert {"deploy", "predict"} <= called(logs)
    assert "--model" not in call(logs, "deploy")  # the champion, which is the index, goes on
    assert found["champion"] == "models:/water/1"


def test_serve_candidate_deploys_it_whatever_the_gate_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GATE", "refused")
    found, logs = run(endpoint="http://127.0.0.1:5002", serve="candidate")
    assert call(logs, "deploy")[-2:] == ["--model", "models:/water/2"]
    assert call(logs, "predict")[-2:] == ["--model", "models:/water/2"]
    assert found["gate"]["verdict"] == "refused"
    assert found["served"]["model"] == "models:/water/2"


def test_a_failing_step_ends_the_job(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAKE_CHIP", "exit:3")
    with pytest.raises(StepRefusedData, match="this is why") as failure:
        run()
    assert failure.value.verb == "chip"
    assert called(tmp_path / "logs") == {"simulate", "ingest", "validate"}


def test_a_refusal_by_any_other_step_than_promote_is_no_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRAIN", "exit:4")
    with pytest.raises(StepFailed, match="left no result"):
        run()


def test_every_step_is_announced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GATE", "refused")
    said: list[str] = []
    run(announce=said.append)
    assert said[0] == "[1/8] simulate ..."
    assert next(line for line in said if line.startswith("[4/8] chip: ")).endswith(", was there already")
    assert next(line for line in said if line.startswith("[7/8] promote: ")).endswith(
        ", the gate refused the candidate"
    )
