"""From any of mask, version, dataset and scene to the others, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from eo_data.errors import DataRefused
from eo_models.evaluation import evaluate
from eo_models.lineage import trace
from eo_models.promotion import promote
from eo_models.training import train

from .conftest import World


def predicted(world: World, scene: str, digest: str) -> str:
    """A prediction as `eo-serving predict` leaves it: a mask whose tags name the model, and an item; its path."""
    key = f"predictions/{scene}-0123456789abcdef/{digest}"
    world.store.put_json_new(f"{key}/item.json", {"properties": {"terraloop:scene": f"{scene}-0123456789abcdef"}})
    path = Path(world.store.uri.removeprefix("file://")) / key / "mask.tif"
    profile = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "uint8", "transform": Affine.scale(2)}
    with rasterio.open(path, "w", **profile) as target:
        target.write(np.zeros((1, 4, 4), np.uint8))
        target.update_tags(**{"Terraloop-Digest": digest})
    return str(path)


def test_all_ways_lead_to_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "train_model")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "manual__1")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080")
    trained = train(world.store, world.usecase, world.dataset.uri, progress=False)
    evaluated = evaluate(world.store, world.usecase, trained["model"], world.dataset.uri, progress=False)
    promote(world.store, world.usecase, evaluated["evaluation"])
    known = sorted({scene.id for scene in world.dataset.manifest.scenes})
    chosen = known[0] if known else "elsewhere"
    mask = predicted(world, chosen, trained["digest"])
    predicted(world, "another", trained["digest"])  # of the same version: none of this mask's
    other = world.store.resolve(f"predictions/another-0123456789abcdef/{trained['digest']}/item.json")
    item = world.store.resolve(f"predictions/{chosen}-0123456789abcdef/{trained['digest']}/item.json")

    def candidate(found: dict[str, Any]) -> dict[str, Any]:
        (one,) = [model for model in found["models"] if model["model"] == trained["model"]]
        return dict(one)

    by_mask = trace(world.store, mask)
    assert (by_mask["scenes"], by_mask["predictions"]) == ([chosen], [item])
    assert by_mask["datasets"] == [world.dataset.digest]
    model = candidate(by_mask)
    assert (model["digest"], model["dataset"], model["run"]) == (
        trained["digest"],
        world.dataset.digest,
        trained["run"],
    )
    assert model["dag"] == {
        "id": "train_model",
        "run": "manual__1",
        "url": "http://127.0.0.1:8080/dags/train_model/runs/manual__1",
    }
    assert model["evaluations"] == [f"{evaluated['evaluation'].removesuffix('/evaluation.json')}/evaluation.json"]
    assert [one["verdict"] for one in model["verdicts"]] == ["promoted"]
    assert model["promotions"] == [{"entry": 2, "reason": "gate"}]
    by_version, by_dataset = trace(world.store, trained["model"]), trace(world.store, world.dataset.digest)
    assert candidate(by_version) == candidate(by_dataset) == model
    assert by_version["predictions"] == sorted([item, other])
    assert by_version["datasets"] == by_dataset["datasets"] == [world.dataset.digest]
    assert {one["model"] for one in by_dataset["models"]} == {trained["model"], trained["index"]}
    assert item in trace(world.store, chosen)["predictions"]
    assert json.dumps(by_mask)


@pytest.mark.parametrize("subject", ["nobody", "models:/made-up/99"])
def test_what_is_not_known(world: World, subject: str) -> None:
    with pytest.raises(DataRefused) as refusal:
        trace(world.store, subject)
    assert refusal.value.where == subject
    assert refusal.value.fix


def test_a_raster_that_no_model_made(world: World, tmp_path: Path) -> None:
    path = tmp_path / "other.tif"
    profile = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "uint8", "transform": Affine.scale(2)}
    with rasterio.open(path, "w", **profile) as target:
        target.write(np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(DataRefused, match="says of no model"):
        trace(world.store, str(path))
