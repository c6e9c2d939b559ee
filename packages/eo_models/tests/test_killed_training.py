"""A real training process, killed half way, and the one that goes on from what it left."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eo_models.registry import Registry
from eo_models.training import train

from .conftest import World


def kill_at(world: World, checkpoints: Path, name: str) -> None:
    """Start `eo-models train`, end it with SIGKILL once a checkpoint of that name is there."""
    command = [sys.executable, "-m", "eo_models", "train", "--usecase", "made-up", "--store", world.store.uri]
    command += ["--dataset", world.dataset.uri, "--checkpoints", str(checkpoints)]
    log = world.usecase_file.parent / "log"
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ}) as child:
        deadline = time.monotonic() + 240
        while not list(checkpoints.glob(f"*/{name}")):
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        child.kill()
    assert child.returncode == -signal.SIGKILL


def test_killed_half_way_and_resumed_equals_unbroken(
    make_world: Callable[..., World],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    chance = {"dropout": 0.2, "augmentation": {"paste": 0.5}}
    world = make_world(train={"epochs": 8, "patience": 8, "members": 2, **chance})
    shutil.copy(world.database, tmp_path / "another.db")
    checkpoints = tmp_path / "kept"
    kill_at(world, checkpoints, "member-1-epoch-0002.ckpt")
    assert {version.tags["terraloop.kind"] for version in Registry("made-up").versions()} == {"spectral-index"}
    caplog.set_level(logging.INFO)
    result = train(world.store, world.usecase, world.dataset.uri, progress=False, checkpoints=checkpoints, resume=True)
    assert f"of member 2, from {checkpoints}" in caplog.text
    assert result["existing"] is False
    assert list(checkpoints.iterdir()) == []

    import mlflow

    history = mlflow.MlflowClient().get_metric_history(result["run"], "loss")
    assert sorted(metric.step for metric in history) == list(range(1, 8 + 8 + 1))
    resumed = Registry("made-up").find({"terraloop.kind": "network"})

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'another.db'}")
    unbroken = train(world.store, world.usecase, world.dataset.uri, progress=False, checkpoints=checkpoints)
    assert unbroken["digest"] == result["digest"]  # the weights, to the last bit
    other = Registry("made-up").find({"terraloop.kind": "network"})
    assert resumed is not None
    assert other is not None
    assert other.description_digest == resumed.description_digest  # every figure and parameter of model.json
