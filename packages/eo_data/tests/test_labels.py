"""Labels: a source's values as class indexes, and nothing guessed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.labels import class_indexes, label_values, read_label
from eo_data.usecase import UseCase

from .conftest import ROOT, write_tiff

DATA = UseCase.load(str(ROOT / "usecases" / "water")).data  # 0 land, 1 water; -1 and 255 are ignored


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32", "float64"])
def test_any_type_of_label_becomes_class_indexes(tmp_path: Path, dtype: str) -> None:
    values = np.array([[[0, 1], [1, 0]]]).astype(dtype)
    indexes = read_label(str(write_tiff(tmp_path / "label.tif", values)), DATA, "s1")
    assert indexes.tolist() == [[0, 1], [1, 0]]
    assert indexes.dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "nodata", "expected"),
    [
        (np.array([[0, 1, -1, 255]], np.int16), None, [[0, 1, 255, 255]]),
        (np.array([[0, 1, 255]], np.uint8), None, [[0, 1, 255]]),
        (np.array([[0, 1, 9]], np.uint8), 9, [[0, 1, 255]]),
        (np.array([[0, 1, 0]], np.uint8), 0, [[0, 1, 0]]),  # what the use case calls land is land
        (np.array([[0, 1, 0]], np.float32), 1, [[0, 1, 0]]),
        (np.array([[0, 1, np.nan, np.inf]], np.float32), None, [[0, 1, 255, 255]]),
        (np.array([[0, 1, np.nan]], np.float32), float("nan"), [[0, 1, 255]]),
        (np.array([[0, 1]], np.float32), 1e39, [[0, 1]]),
        (np.array([[0, 1]], np.uint8), -9999, [[0, 1]]),
    ],
)
def test_what_is_not_scored_is_255(
    values: NDArray[np.generic], nodata: float | None, expected: list[list[int]]
) -> None:
    assert class_indexes(values, DATA, nodata).tolist() == expected


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (np.array([[0, 1, 7]], np.uint8), "7"),
        (np.array([[0, 0.5, 1]], np.float32), "0.5"),
        (np.array([[0.9999999, 1]], np.float64), "0.9999999"),
        (np.array([[0, 2, 3, 4, 5, 6, 7]], np.int16), "2, 3, 4, 5, 6"),
        (np.array([[-2]], np.int16), "-2"),
        (np.array([[2**63]], np.uint64), "9.22337204e+18"),
    ],
)
def test_values_that_stand_for_no_class_are_named(values: NDArray[np.generic], named: str) -> None:
    with pytest.raises(DataRefused, match=re.escape(f"label: label values {named} stand for no class")):
        class_indexes(values, DATA)


def test_what_a_mask_hides_is_not_scored(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "label.tif", np.ones((1, 4, 4), np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        mask = np.full((4, 4), 255, np.uint8)
        mask[:2] = 0
        dataset.write_mask(mask)
    assert read_label(str(path), DATA, "s1").tolist() == [[255] * 4] * 2 + [[1] * 4] * 2


def test_a_mask_hides_what_a_declared_nodata_that_is_a_class_does_not(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "label.tif", np.zeros((1, 2, 4), np.uint8), nodata=0)
    assert read_label(str(path), DATA, "s1").tolist() == [[0] * 4] * 2
    hidden = np.array([[True] * 4, [False] * 4])
    assert class_indexes(np.zeros((2, 4), np.uint8), DATA, 0, hidden).tolist() == [[255] * 4, [0] * 4]


def test_a_file_that_is_no_label_is_refused_by_name(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "two.tif", np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DataRefused, match=r"^s1: a label has one band, this one has 2"):
        read_label(str(path), DATA, "s1")
    (tmp_path / "page.tif").write_text("<html>")
    with pytest.raises(DataRefused, match=r"^s1: this is no GeoTIFF"):
        read_label(str(tmp_path / "page.tif"), DATA, "s1")
    noise = np.random.default_rng(0).integers(0, 2, (1, 200, 200)).astype(np.uint8)
    whole = write_tiff(tmp_path / "cut.tif", noise).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataRefused, match=r"^s1: the .* truncated or damaged"):
        read_label(str(tmp_path / "cut.tif"), DATA, "s1")
    with pytest.raises(DataRefused, match=r"^s1: label values 7 stand for no class"):
        read_label(str(write_tiff(tmp_path / "seven.tif", np.full((1, 2, 2), 7, np.uint8))), DATA, "s1")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 1, 1], [1, -1, 255]], np.int16), {"-1": 1, "0": 1, "1": 3, "255": 1}),
        (np.array([[0, 1, 0.5, np.nan, np.nan]], np.float32), {"0": 1, "0.5": 1, "1": 1, "nan": 2}),
        (np.array([[-128, 127]], np.int8), {"-128": 1, "127": 1}),
        (np.array([[0, 2**64 - 1, 2**64 - 1]], np.uint64), {"0": 1, "18446744073709551615": 2}),
        (np.array([[2**64 - 2, 2**64 - 1]], np.uint64), {"18446744073709551614": 1, "18446744073709551615": 1}),
        (np.array([[-(2**31), 2**31 - 1]], np.int32), {"-2147483648": 1, "2147483647": 1}),
        (np.zeros((0, 3), np.uint8), {}),
    ],
)
def test_a_labels_values_are_counted(values: NDArray[np.generic], expected: dict[str, int]) -> None:
    assert label_values([values]) == expected
    assert list(label_values([values])) == list(expected)
    assert label_values([values[:, :1], values[:, 1:]]) == expected


def test_of_many_values_the_commonest_are_told_and_the_rest_counted() -> None:
    values = np.concatenate([np.repeat(np.arange(64), 3), np.arange(1000, 2000)]).astype(np.int32)
    counted = label_values(np.array_split(values, 7))
    assert counted.pop("more") == 1000
    assert counted == {str(value): 3 for value in range(64)}
    noise = np.random.default_rng(0).normal(size=200_000)
    counted = label_values(np.array_split(noise, 5))
    assert len(counted) == 65
    assert sum(counted.values()) == noise.size
