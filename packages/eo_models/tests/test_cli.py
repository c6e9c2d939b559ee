"""The command: results, exit codes, and what a user is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eo_models.cli import main

from .conftest import World


def test_the_line_with_a_refusal_by_exit_code(
    make_world: Callable[..., World], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world = make_world(train={"epochs": 1, "learning_rate": 1e-9})
    result = tmp_path / "result.json"

    def run(step: str, *flags: str) -> int:
        return main([step, "--usecase", "made-up", "--store", world.store.uri, "--result", str(result), *flags])

    assert run("train", "--dataset", world.dataset.uri) == 0
    trained = json.loads(result.read_text())
    assert set(trained) == {"model", "version", "digest", "index", "run", "existing"}
    assert json.loads(capfd.readouterr().out) == trained

    assert run("evaluate", "--model", trained["model"], "--dataset", world.dataset.uri) == 0
    evaluated = json.loads(result.read_text())
    assert set(evaluated) == {"evaluation", "model", "champion", "index", "iou", "existing"}
    assert set(evaluated["iou"]) == {"candidate", "champion", "index", "index_untuned"}

    assert run("promote", "--evaluation", evaluated["evaluation"]) == 4
    refused = json.loads(result.read_text())
    assert set(refused) == {"gate", "champion", "previous", "entry"}
    assert (refused["gate"]["verdict"], refused["champion"], refused["entry"]) == ("refused", "models:/made-up/1", None)
    assert "the gate refused the candidate: does not beat the index" in capfd.readouterr().err

    assert run("promote", "--evaluation", evaluated["evaluation"]) == 0
    assert json.loads(result.read_text())["gate"]["verdict"] == "no-op"


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["train", "--dataset", "datasets/none"], 3, "there is no such object"),
        (["train", "--dataset", "file:///elsewhere/datasets/x"], 2, "outside the store"),
        (["evaluate", "--model", "water/2", "--dataset", "datasets/none"], 3, "there is no such object"),
        (["promote", "--evaluation", "evaluations/none"], 3, "there is no such object"),
    ],
)
def test_mistakes_are_told_by_exit_code_and_leave_no_result(
    world: World, flags: list[str], code: int, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.json"
    step, *rest = flags
    assert main([step, "--usecase", "made-up", "--store", world.store.uri, "--result", str(result), *rest]) == code
    assert told in capfd.readouterr().err
    assert not result.exists()


def test_evaluate_before_train_says_what_to_do(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--usecase", "made-up", "--store", world.store.uri, "--model", "models:/made-up@champion"]
    assert main(["evaluate", *flags, "--dataset", world.dataset.uri]) == 3
    assert "Run train" in capfd.readouterr().err


def test_no_tracking_store_is_said_before_anything_is_trained(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    flags = ["--usecase", "made-up", "--store", world.store.uri, "--dataset", world.dataset.uri]
    assert main(["train", *flags]) == 2
    assert "MLFLOW_TRACKING_URI" in capfd.readouterr().err
