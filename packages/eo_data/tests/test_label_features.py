"""What is measured of a label: from its record where that tells, from its pixels where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from eo_data.label_features import Sample, label_features
from eo_data.pixel_sample import plan_sample
from eo_data.usecase import UseCase

from .conftest import water_scene, write_tiff

LABEL = water_scene(0)[1]
GRID = "grid"


def measure(path: Path, water: UseCase, record: dict[str, Any] | None = None, valid: Any = True) -> dict[str, Any]:
    with rasterio.open(path) as dataset:
        plan = plan_sample(dataset.shape, dataset.block_shapes[0])
    sample = None if valid is None else Sample(plan, np.broadcast_to(valid, (LABEL.size,)))
    return label_features(str(path), {"grid": GRID, **(record or {})}, str(path), GRID, sample, water.data)


def counts(label: NDArray[Any]) -> dict[str, int]:
    return {f"{value}": int(count) for value, count in zip(*np.unique(label, return_counts=True), strict=True)}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_record_and_pixels_tell_the_same(dtype: type[np.generic], tmp_path: Path, water: UseCase) -> None:
    label = np.where(np.arange(128)[:, None] < 32, 255, LABEL).astype(dtype)
    label[40:50] = 9
    path = write_tiff(tmp_path / "label.tif", label[None], nodata=9)
    told = measure(path, water, {"values": counts(label)})
    assert told == measure(path, water)
    assert told["label_fault"] == ""
    assert told["label_ignored_fraction"] == pytest.approx(42 / 128, abs=1e-6)


def test_a_record_is_believed_without_decoding_the_label(tmp_path: Path, water: UseCase) -> None:
    path = write_tiff(tmp_path / "label.tif", LABEL[None])
    told = measure(path, water, {"values": {"0": 1, "255": LABEL.size - 1}}, valid=None)
    assert told["label_ignored_fraction"] == pytest.approx(1 - 1 / LABEL.size, abs=1e-6)


@pytest.mark.parametrize("record", [{}, {"values": {"0": 5, "more": 1}}])
def test_a_record_that_does_not_tell_all_is_not_enough(record: dict[str, Any], tmp_path: Path, water: UseCase) -> None:
    label = LABEL.copy()
    label[-1, -1] = 7
    assert measure(write_tiff(tmp_path / "label.tif", label[None]), water, record)["label_fault"] == (
        "label values 7 stand for no class"
    )


def test_values_of_no_class_in_the_record_are_named(tmp_path: Path, water: UseCase) -> None:
    path = write_tiff(tmp_path / "label.tif", LABEL[None])
    assert measure(path, water, {"values": {"0": 9, "3": 1, "0.5": 1}})["label_fault"] == (
        "label values 0.5, 3 stand for no class"
    )


def test_a_label_on_another_grid_is_told_how_it_differs(tmp_path: Path, water: UseCase) -> None:
    image = write_tiff(tmp_path / "image.tif", LABEL[None])
    label = write_tiff(tmp_path / "label.tif", LABEL[None, 1:])
    told = label_features(str(label), {"grid": "elsewhere"}, str(image), GRID, None, water.data)
    assert told["label_fault"] == ("it lies on another grid than the scene: size 127 x 128, the image has 128 x 128")
    assert told["label_ignored_fraction"] is None


def test_the_same_grid_in_other_words_is_the_same(tmp_path: Path, water: UseCase) -> None:
    path = str(write_tiff(tmp_path / "label.tif", LABEL[None]))
    told = label_features(path, {"grid": "told otherwise"}, path, GRID, None, water.data)
    assert (told["label_fault"], told["label_ignored_fraction"]) == ("", 0.0)


def test_scored_pixels_without_image_data_are_counted(tmp_path: Path, water: UseCase) -> None:
    label = np.where(np.arange(128)[:, None] < 64, 255, LABEL).astype(np.uint8)
    path = write_tiff(tmp_path / "label.tif", label[None])
    rows = np.arange(128)[:, None] + np.zeros((128, 128))
    assert measure(path, water, valid=True)["label_unseen_fraction"] == 0
    assert measure(path, water, valid=(rows >= 96).ravel())["label_unseen_fraction"] == 0.5
    assert measure(path, water, valid=(rows < 64).ravel())["label_unseen_fraction"] == 1
    assert measure(path, water, valid=False)["label_unseen_fraction"] is None
    nothing = write_tiff(tmp_path / "nothing.tif", label[None] | np.uint8(255))
    assert measure(nothing, water)["label_unseen_fraction"] is None


def test_what_cannot_be_read_as_a_label_says_why(tmp_path: Path, water: UseCase) -> None:
    two = write_tiff(tmp_path / "two.tif", np.stack([LABEL, LABEL]))
    assert measure(two, water)["label_fault"] == "a label has one band, this one has 2"
    whole = write_tiff(tmp_path / "whole.tif", np.random.default_rng(0).integers(0, 2, (1, 128, 128), dtype=np.uint8))
    damaged = bytearray(whole.read_bytes())
    damaged[-2000:-1000] = bytes(1000)
    whole.write_bytes(damaged)
    assert "truncated or damaged" in measure(whole, water)["label_fault"]
    assert "truncated or damaged" in measure(whole, water, {"values": {"0": 1}})["label_fault"]
