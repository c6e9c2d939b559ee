"""The same line against a real MLflow server: runs, artifacts and versions over HTTP."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eo_data.model.files import fetch_model
from eo_data.model.session import OnnxModel
from eo_models.evaluation import evaluate
from eo_models.promotion import promote
from eo_models.training import train

from .conftest import World
from .tracking_server import TrackingServer


def test_the_line_over_http(
    make_world: Callable[..., World], server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    trained = train(world.store, world.usecase, world.dataset.uri, progress=False)
    files = fetch_model(trained["model"])
    assert files.digest == trained["digest"]
    OnnxModel(files.graph, files.description).self_test()
    evaluated = evaluate(world.store, world.usecase, trained["model"], world.dataset.uri, progress=False)
    assert promote(world.store, world.usecase, evaluated["evaluation"])["gate"]["verdict"] == "promoted"
    assert train(world.store, world.usecase, world.dataset.uri, progress=False) == {**trained, "existing": True}
    uploaded = {path.name for path in server.artifacts.rglob("*") if path.is_file()}
    assert {
        "model.onnx",
        "model.json",
        "MLmodel",
        "model-card.md",
        "confusion.png",
        "report.html",
        "samples.png",
    } <= uploaded
    assert not (world.database.parent / "mlartifacts").exists()
