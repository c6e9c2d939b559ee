from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eo_data.errors import TemporaryFailure, UsageError
from eo_data.model.ledger import Ledger
from eo_models.registry import Registry
from eo_models.tracking import tracking_uri

from .conftest import World


@pytest.mark.parametrize("uri", ["", "mlruns", "file:///tmp/mlruns", "ftp://host"])
def test_what_is_no_tracking_store_is_named(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI"):
        tracking_uri()


def test_a_server_out_of_reach_is_a_temporary_failure(monkeypatch: pytest.MonkeyPatch, unused_port: int) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TemporaryFailure, match="did not answer"):
        Registry("made-up")


def test_a_database_that_cannot_be_opened_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("this is no database, " * 100)
    for name in ("folder", "text", "text/below/mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/{name}")
        with pytest.raises(UsageError, match="cannot be opened"):
            Registry("made-up")


def test_a_run_that_fails_is_recorded_as_failed(world: World) -> None:
    from mlflow import MlflowClient

    registry = Registry("made-up")
    with pytest.raises(ValueError, match="on purpose"), registry.run("a run", {}) as run:
        raise ValueError("on purpose")
    assert MlflowClient().get_run(run.id).info.status == "FAILED"


def test_a_run_is_nested_below_its_parent(world: World) -> None:
    from mlflow import MlflowClient

    registry = Registry("made-up")
    with registry.run("a study", {}) as study, registry.run("a trial", {}, parent=study) as trial:
        pass
    client = MlflowClient()
    [experiment] = [found.experiment_id for found in client.search_experiments() if found.name == "made-up"]
    nested = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{study.id}'")
    assert [run.info.run_id for run in nested] == [trial.id]
    assert "mlflow.parentRunId" not in client.get_run(study.id).data.tags


def test_killed_in_training_leaves_no_version_of_it(make_world: Callable[..., World]) -> None:
    world = make_world(train={"epochs": 100_000, "patience": 100_000})
    command = [
        sys.executable, "-c", "import sys; from eo_models.cli import main; sys.exit(main())", "train",
        "--usecase", "made-up", "--store", world.store.uri, "--dataset", world.dataset.uri,
    ]  # fmt: skip
    log = world.database.parent / "train.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=subprocess.PIPE, env=dict(os.environ))
        try:
            while b"epoch" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert output == b""
    assert [version.tags["terraloop.kind"] for version in Registry("made-up").versions()] == ["spectral-index"]
    assert [entry.reason for entry in Ledger(world.store, "made-up").entries()] == ["bootstrap"]
    assert not list(world.database.parent.glob("mlartifacts/*/artifacts/model/model.onnx"))[1:]
