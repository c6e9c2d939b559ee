from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.dataset import Dataset, model_input
from eo_data.errors import UsageError
from eo_data.model.description import ModelDescription
from eo_data.tiling import TilePlan, predict_array
from eo_data.usecase import IGNORE, Split, UseCase
from eo_models.confusion import Counts, count, pool
from eo_models.export import graph_bytes
from eo_models.index_version import tuned_index, untuned_index
from eo_models.spectral_index import GRID, SpectralIndex, index_graph, indices, tune

from .conftest import SECTIONS, World


def run(index: SpectralIndex, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        graph_bytes(index_graph(index, pixels.shape[1])), providers=["CPUExecutionProvider"]
    )
    result: NDArray[np.float32] = session.run(["probability"], {"reflectance": pixels})[0]
    return result


@pytest.mark.parametrize("threshold", [-0.5, -0.22, 0.0, 0.01, 0.13, 0.5])
def test_graph_decides_exactly_as_the_formula(threshold: float) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.integers(-300, 4000, 20_000), rng.integers(0, 40, 20_000)])
    pixels = rng.permutation(values)[: 4 * 9_000].reshape(1, 4, 90, 100).astype(np.float32)
    pixels[0, :, 0, :5] = [[0, 5, -5, 3, -7]] * 2 + [[0, -5, 5, 3, -7]] * 2  # 0/0, 10/0, -10/0 and equal ones
    index = SpectralIndex("NDWI", 1, 2, threshold)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = (pixels[0, 1] - pixels[0, 2]) / (pixels[0, 1] + pixels[0, 2])
    probability = run(index, pixels)[0]
    assert np.isfinite(probability).all()
    np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(probability.argmax(axis=0), (plain > np.float32(threshold)).astype(int))
    np.testing.assert_array_equal(index.mask(pixels[0]), probability.argmax(axis=0))
    assert probability[1, 0, 0] < 0.5  # 0/0 is not water


def test_graph_decides_the_same_once_tiles_are_blended() -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(-50, 60, (4, 100, 90)).astype(np.float32)
    index = SpectralIndex("NDWI", 1, 2, 0.1)
    plan = TilePlan(tile=48, halo=0, blend=16)
    probability = predict_array(pixels, np.ones((100, 90), dtype=bool), lambda tiles: run(index, tiles), plan)
    np.testing.assert_array_equal(probability.argmax(axis=0), index.mask(pixels))


def test_probability_grows_with_the_distance_to_the_threshold() -> None:
    green = np.array([100, 105, 110, 150, 300], dtype=np.float32)
    pixels = np.stack([green, np.full_like(green, 100)]).reshape(1, 2, 1, 5)
    water = run(SpectralIndex("NDWI", 0, 1, 0.0), pixels)[0, 1, 0]
    assert (np.diff(water) > 0).all()
    assert water[-1] > 0.99


def test_tuning_equals_brute_force(world: World) -> None:
    tuned = tune(world.dataset, world.usecase.data)
    best: dict[str, tuple[float, float]] = {}
    for index in indices(world.usecase.data):
        at_each = [_brute(world.dataset, index, "train", float(threshold)).iou or 0.0 for threshold in GRID]
        top = max(at_each)
        threshold = min((float(t) for t, iou in zip(GRID, at_each, strict=True) if iou == top), key=abs)
        best[index.name] = round(threshold, 2), top
    validation = {
        index.name: _brute(world.dataset, index, "validation", best[index.name][0]).iou
        for index in indices(world.usecase.data)
    }
    winner = max(validation, key=lambda name: validation[name] or 0.0)
    assert tuned.index.name == winner
    assert (tuned.index.threshold, tuned.train.iou) == best[winner]
    assert tuned.others == validation
    assert tuned.validation.iou == validation[winner]


def test_tuning_looks_at_training_and_validation_alone(world: World) -> None:
    tuned = tune(world.dataset, world.usecase.data)
    for chip in world.dataset.chips("holdout", "test"):
        _, label = world.dataset.read(chip)
        path = world.store.raster_path(f"datasets/{world.dataset.digest}/chips/{chip.shard}.labels.npy")
        np.save(path, 1 - label[None].clip(0, 1))
    assert tune(Dataset(world.store, world.dataset.uri), world.usecase.data) == tuned


def _brute(dataset: Dataset, index: SpectralIndex, split: Split, threshold: float) -> Counts:
    parts = []
    for chip in dataset.chips(split):
        image, label = dataset.read(chip)
        pixels, valid = model_input(image)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = (pixels[index.green] - pixels[index.other]) / (pixels[index.green] + pixels[index.other])
        mask = (values > np.float32(threshold)).astype(np.uint8)
        parts.append(count(np.where(valid, mask, np.uint8(IGNORE)), label))
    return pool(parts)


def test_version_scores_as_it_was_tuned(world: World) -> None:
    artifact = tuned_index(world.usecase, world.dataset)
    model = artifact.model()
    model.self_test()
    parts = []
    for chip in world.dataset.chips("validation"):
        image, label = world.dataset.read(chip)
        parts.append(count(model.mask(*model_input(image)), label))
    assert artifact.description.metrics["validation_iou"] == pytest.approx(pool(parts).iou, abs=1e-6)
    assert artifact.description.kind == "spectral-index"
    assert artifact.description.tiling.plan().halo == 0


def test_equal_datasets_give_equal_versions(world: World) -> None:
    first, second = (tuned_index(world.usecase, world.dataset) for _ in range(2))
    assert first.digest == second.digest
    assert first.description.to_bytes() == second.description.to_bytes()
    assert ModelDescription.from_bytes(first.description.to_bytes()) == first.description


def test_untuned_is_ndwi_above_zero(world: World) -> None:
    description = untuned_index(world.usecase, world.dataset).description
    assert (description.architecture, description.parameters["threshold"]) == ("NDWI", 0.0)
    assert description.parameters["bands"] == ["green", "nir"]


@pytest.mark.parametrize(("name", "expected"), [("water", ["B03", "B08"]), ("water-hls", ["green", "nir"])])
def test_real_use_cases_name_their_bands(name: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRALOOP_USECASES", str(Path(__file__).parents[3] / "usecases"))
    data = UseCase.load(name).data
    found = indices(data)
    assert [index.name for index in found] == ["NDWI", "MNDWI"]
    assert [data.input_bands[k].name for k in (found[0].green, found[0].other)] == expected
    assert found[1].other == 4 + (name == "water-hls")


def test_three_classes_are_told_apart_by_no_index() -> None:
    data = dict(SECTIONS["data"])  # type: ignore[call-overload]
    data["classes"] = [*data["classes"], {"name": "ice", "color": "#ffffff", "label_values": [2]}]
    with pytest.raises(UsageError, match="3"):
        indices(UseCase("three", {"data": data}).data)


def test_bands_without_an_index_are_named() -> None:
    data = dict(SECTIONS["data"])  # type: ignore[call-overload]
    data["inputs"] = ["blue", "green"]
    with pytest.raises(UsageError, match="blue, green"):
        indices(UseCase("blue", {"data": data}).data)
