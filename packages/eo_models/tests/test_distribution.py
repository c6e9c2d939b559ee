"""Two real processes that `torchrun` starts, over gloo: the same loss as one, one registration, one result."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from eo_data.errors import UsageError
from eo_models.configuration import train_section
from eo_models.distribution import ALONE, Processes, started_processes
from eo_models.fit import fit
from eo_models.registry import Registry
from eo_models.synchronized import SynchronizedBatchNorm2d, synchronize
from eo_models.unet import Reflectance, UNet

from .conftest import World

EPOCHS = 10
BOUND = 280
"""Seconds after which a job is given up."""


def torchrun(world: World, *flags: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    step = ["eo_models", "train", "--usecase", "made-up", "--store", world.store.uri, "--dataset", world.dataset.uri]
    return [*launcher, *step, *flags]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def losses(run: str) -> list[float]:
    import mlflow

    history = mlflow.MlflowClient().get_metric_history(run, "loss")
    return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def test_two_processes_train_like_one_and_a_killed_one_ends_the_job(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    # 5 chips in minibatches of 4: of the last one the second process has none. 3 validation chips do not divide.
    counts = {"train": 5, "validation": 3, "holdout": 1, "test": 1}
    world = make_world(train={"epochs": EPOCHS, "patience": EPOCHS, "augmentation": {"paste": 0.5}}, counts=counts)
    section = train_section(world.usecase)
    alone: list[dict[str, float]] = []
    fit(world.dataset, section, [], lambda epoch, figures: alone.append(figures), progress=False)

    result, kept, log = tmp_path / "result.json", tmp_path / "kept", tmp_path / "log"
    flags = ("--result", str(result), "--checkpoints", str(kept))
    with log.open("wb") as stream:
        job = subprocess.Popen(torchrun(world, *flags), stdout=stream, stderr=stream, env=environment())
        deadline = time.monotonic() + BOUND
        while not list(kept.glob("*/member-0-epoch-0002.ckpt")):
            assert job.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        [second] = [child for child in children(job.pid) if rank(child) == "1"]
        os.kill(second, signal.SIGKILL)
        assert job.wait(BOUND) == 1, log.read_text()
    assert not result.exists()
    assert {version.tags["terraloop.kind"] for version in Registry("made-up").versions()} == {"spectral-index"}

    command = torchrun(world, "--resume", *flags)
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=BOUND, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"goes on after epoch \d+ of member 1", done.stderr)) == 1
    assert len(re.findall(r"train: registered", done.stderr)) == 1
    told = json.loads(result.read_text())
    assert json.loads(done.stdout) == told
    assert told["existing"] is False
    networks = [v for v in Registry("made-up").versions() if v.tags["terraloop.kind"] == "network"]
    assert [version.number for version in networks] == [told["version"]]

    together = losses(told["run"])
    assert len(together) == EPOCHS
    expected = [figures["loss"] for figures in alone]
    assert together == pytest.approx(expected, rel=1e-3)


def children(parent: int) -> list[int]:
    """The processes that a process started, of which it has more threads than one."""
    listed = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


def rank(process: int) -> str | None:
    entries = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return next((entry.partition("=")[2] for entry in entries if entry.startswith("RANK=")), None)


def test_who_torchrun_says_this_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")  # of another launcher
    assert started_processes() is ALONE
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    found = started_processes()
    assert (found, found.machines, found.chief) == (Processes(3, 4, 2), 2, False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="nproc-per-node"):
        started_processes()


def test_synchronized_normalisation_is_torchs_own_where_one_process_has_all() -> None:
    torch.manual_seed(0)
    plain = UNet(Reflectance([100.0] * 3, [50.0] * 3, []), classes=2, channels=4, convolutions=(1, 1, 1, 1))
    twin = synchronize(UNet(plain.reflectance, classes=2, channels=4, convolutions=(1, 1, 1, 1)), lambda own: own)
    twin.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 16, 16) * 50 + 150
    for network in (plain, twin):
        for _ in range(3):
            torch.autograd.backward(network(images).square().sum())
    state = twin.state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5)
    gradients = dict(twin.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=2e-3, atol=2e-2)
    torch.testing.assert_close(twin.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-4)
    assert not any(type(part) is nn.BatchNorm2d for part in twin.modules())


def test_synchronized_normalisation_counts_right_in_bfloat16() -> None:
    """69938 pixels are no bfloat16 number; rounded, mean and variance would be of 70144."""
    torch.manual_seed(0)
    values = (torch.randn(2, 3, 187, 187) + 5).bfloat16()
    plain, twin = nn.BatchNorm2d(3), SynchronizedBatchNorm2d(3)
    expected = plain(values.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = twin(values)
    torch.testing.assert_close(twin.running_mean, plain.running_mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(twin.running_var, plain.running_var, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
