"""Behavioural tests: they pass what is sound, and name what is not, by models that fail each on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eo_data.model.description import Tiling
from eo_data.model.session import OnnxModel
from eo_data.tiling import Pixels, Valid, predict_array
from eo_models.behaviour import behaviour
from eo_models.contestants import Contestant
from eo_models.evaluation_record import Check
from eo_models.index_version import untuned_index
from eo_models.made_up_scenes import mosaic, uniform_scene

from .conftest import World

Water = Callable[[Pixels], Any]


class Scripted(OnnxModel):
    """An index's description around any function of tiles, through the tile plan as ever."""

    def __init__(self, world: World, water: Water, tiling: Tiling) -> None:
        artifact = untuned_index(world.usecase, world.dataset)
        super().__init__(artifact.graph, artifact.description.model_copy(update={"tiling": tiling}))
        self._water = water

    def probability(self, pixels: Pixels, valid: Valid) -> Pixels:
        def predict(tiles: Pixels) -> Pixels:
            water = np.clip(self._water(tiles), 0, 1).astype(np.float32)
            return np.stack([1 - water, water], axis=1)

        return predict_array(pixels, valid, predict, self.description.tiling.plan())


def ndwi(tiles: Pixels) -> Any:
    """NDWI > 0.1: above 0 lies snow too."""
    return 0.4 + (tiles[:, 1] - tiles[:, 2]) / np.maximum(tiles[:, 1] + tiles[:, 2], 1)


def checks(world: World, water: Water = ndwi, tiling: Tiling | None = None) -> dict[str, Check]:
    model = Scripted(world, water, tiling or Tiling(tile=64, halo=0, blend=0))
    found = behaviour(Contestant(None, model, [0, 1, 2, 3]), world.dataset, world.usecase.data)
    return {check.name: check for check in found}


def failed(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.passed is False}


def test_an_index_passes_and_says_by_which_numbers(world: World) -> None:
    found = checks(world)
    assert failed(found) == set()
    assert found["tile offset"].value == found["nodata collar"].value == 0
    assert found["flips and rotations"].value == 1
    assert {name for name, check in found.items() if check.simulated} == {"all cloud", "all snow", "constant scenes"}
    assert all(check.detail for check in found.values())


def test_a_model_that_looks_beyond_its_halo_shows_at_the_seams(world: World) -> None:
    def smoothed(tiles: Pixels) -> Any:
        padded = np.pad(ndwi(tiles) + 0.3, ((0, 0), (12, 12), (0, 0)), mode="edge")
        rows = [padded[:, k : k + tiles.shape[2]] for k in range(25)]
        return np.mean(rows, axis=0)

    assert {"tile offset", "nodata collar"} <= failed(checks(world, smoothed))
    enough = checks(world, smoothed, Tiling(tile=96, halo=16, blend=0))
    assert not {"tile offset", "nodata collar"} & failed(enough)


def test_a_model_that_minds_missing_data_far_away_fails_within_a_frame_alone(world: World) -> None:
    def minds(tiles: Pixels) -> Any:
        missing = (tiles == 0).all(axis=1).mean(axis=(1, 2)) > 0.2
        return np.where(missing[:, None, None], 1 - ndwi(tiles), ndwi(tiles))

    found = checks(world, minds)
    assert failed(found) == {"nodata collar"}
    assert (found["nodata collar"].value or 0) > 100


def test_a_model_that_knows_left_from_right_fails_when_mirrored(world: World) -> None:
    found = checks(world, lambda tiles: np.roll(ndwi(tiles), 10, axis=2))
    assert "flips and rotations" in failed(found)
    assert (found["flips and rotations"].value or 1) < 0.95


def test_what_calls_snow_water_is_told_by_the_share(world: World) -> None:
    def mndwi(tiles: Pixels) -> Any:
        return 0.5 + (tiles[:, 1] - tiles[:, 3]) / np.maximum(tiles[:, 1] + tiles[:, 3], 1)

    found = checks(world, mndwi)
    assert "all snow" in failed(found)
    assert found["all snow"].value == pytest.approx(1)
    assert failed(checks(world, lambda tiles: (tiles[:, 0] > 5000).astype(float))) == {"all cloud", "all snow"}


def test_a_model_that_breaks_on_a_constant_is_named_and_stops_nothing(world: World) -> None:
    def fragile(tiles: Pixels) -> Any:
        if np.ptp(tiles) == 0:
            raise ZeroDivisionError
        return ndwi(tiles)

    found = checks(world, fragile)
    assert failed(found) == {"constant scenes"}
    assert "32767: ZeroDivisionError" in found["constant scenes"].detail


def test_where_numbers_run_out_there_is_no_class_and_it_is_said(world: World) -> None:
    found = checks(world, lambda tiles: np.where(tiles[:, 0] == 32_767, np.nan, ndwi(tiles)))
    assert found["constant scenes"].passed
    assert "no class where every value is 32767" in found["constant scenes"].detail


def test_where_nothing_lies_beyond_the_halo_it_is_not_asked_rather_than_passed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eo_models.behaviour._LARGEST", 64)
    found = checks(world, tiling=Tiling(tile=192, halo=64, blend=0))
    assert found["tile offset"].passed is None
    assert found["tile offset"].value is None


def test_scenes_for_it_are_real_chips_and_known_spectra(world: World) -> None:
    pixels, valid = mosaic(world.dataset, "test", 100)
    assert pixels.shape == (4, 128, 128)
    chips = {world.dataset.read(chip)[0].tobytes() for chip in world.dataset.chips("test")}
    corner = pixels[:, :32, :32].astype(np.int16)
    assert corner.tobytes() in chips
    assert not valid.all()
    snow = uniform_scene("snow", world.usecase.data, 16)
    assert snow is not None
    assert snow.mean(axis=(1, 2)) == pytest.approx([9200, 9000, 8300, 1100], rel=0.1)


def test_a_band_that_the_simulator_does_not_know_leaves_the_question_open(world: World) -> None:
    data = world.usecase.data.model_copy(
        update={
            "bands": (*world.usecase.data.bands, world.usecase.data.bands[0].model_copy(update={"name": "thermal"}))
        }
    )
    data = data.model_copy(update={"inputs": ("thermal",)})
    assert uniform_scene("cloud", data, 8) is None
