"""A deployment is read from variables, once, and refuses what cannot be meant."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipelines.deployment import Deployment
from pipelines.project import Misuse


def test_nothing_said_is_processes_of_this_machine() -> None:
    assert Deployment.read({}) == Deployment()
    assert Deployment().mode == "process"


def test_what_is_said() -> None:
    found = Deployment.read(
        {
            "TERRALOOP_STEP_MODE": "kubernetes",
            "TERRALOOP_IMAGE_TRAIN": "t:1",
            "TERRALOOP_IMAGE_SERVE": "s:1",
            "TERRALOOP_ENVIRONMENTS": "/e",
            "TERRALOOP_COOLDOWN_HOURS": "0.5",
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "AWS_SECRET_ACCESS_KEY": "hush",
            "PATH": "/bin",
        }
    )
    assert (found.mode, found.images, found.environments) == (
        "kubernetes",
        {"train": "t:1", "serve": "s:1"},
        Path("/e"),
    )
    assert (found.cooldown_hours, found.variables) == (0.5, {"MLFLOW_TRACKING_URI": "http://mlflow:5000"})
    assert found.secrets == {"AWS_SECRET_ACCESS_KEY": "hush"}
    assert "hush" not in repr(found)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TERRALOOP_STEP_MODE": "ssh"}, "give one of process, docker, kubernetes"),
        ({"TERRALOOP_STEP_MODE": "docker"}, "needs TERRALOOP_IMAGE_TRAIN"),
        ({"TERRALOOP_COOLDOWN_HOURS": "soon"}, "TERRALOOP_COOLDOWN_HOURS=soon is no number of hours"),
        ({"TERRALOOP_APPROVAL_HOURS": "-1"}, "TERRALOOP_APPROVAL_HOURS=-1 is no number of hours"),
        ({"TERRALOOP_COOLDOWN_HOURS": "nan"}, "is no number of hours"),
    ],
)
def test_what_cannot_be_meant(variables: dict[str, str], words: str) -> None:
    with pytest.raises(Misuse, match=words):
        Deployment.read(variables)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Deployment().mode = "docker"  # type: ignore[misc]
