"""The generated scene is the same for the same seed and compresses like a real one; checks see what differs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from benchmarks.data import children, ours
from benchmarks.data.scene import USECASE, compression, cut_quarters, make_scene
from benchmarks.data.workload import Workload
from benchmarks.protocol import Check
from eo_data.loader import RasterPair, RasterSource, grid_chips, jittered_chips
from eo_data.usecase import UseCase

SIZE = 1100
"""Two tiles of 512 and a rest."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """A scene, with figures in place of a dataset's."""
    folder = tmp_path_factory.mktemp("work")
    figures: Any = SimpleNamespace(statistics=SimpleNamespace(mean=(1500.0,) * 6, std=(400.0,) * 6))
    return Workload(folder, SIZE, *make_scene(folder, SIZE), UseCase("benchmark", USECASE), figures)


def loaders(work: Workload, image: Path) -> ours.Ours:
    source = RasterSource([RasterPair(str(image), str(work.label))], work.usecase.data)
    chips = grid_chips(source.grids, 256, edges=False)
    return ours.Ours(work, source, source, cast(Any, None), chips, jittered_chips(source.grids, 256, tiles=1))


def test_the_scene_is_the_same_each_time_and_compresses_like_a_real_one(work: Workload, tmp_path: Path) -> None:
    image, label = make_scene(tmp_path, SIZE)
    for path, again in ((work.image, image), (work.label, label)):
        with rasterio.open(path) as first, rasterio.open(again) as second:
            np.testing.assert_array_equal(first.read(), second.read())
            assert first.block_shapes[0] == (512, 512)
            assert first.profile["compress"] == "deflate"
    assert 1.4 < compression(image) < 2.2


def test_equal_chips_pass_and_one_wrong_pixel_does_not(work: Workload, tmp_path: Path) -> None:
    assert ours.equal_to_rasterio(loaders(work, work.image), ours.JITTERED).passed
    found = ours.equal_to_rasterio(loaders(work, work.image), ours.GRID_ONE)
    assert found == Check(True, "16 chips and labels compared")
    with rasterio.open(work.image) as dataset:
        pixels, profile = dataset.read(), dataset.profile
    pixels[3, 700, 300] += 1
    with rasterio.open(tmp_path / "other.tif", "w", **profile) as dataset:
        dataset.write(pixels)
        dataset.descriptions = tuple(band["name"] for band in USECASE["data"]["bands"])
    found = ours.equal_to_rasterio(loaders(work, tmp_path / "other.tif"), ours.GRID_ONE)
    assert found == Check(False, "chip at row 512, column 256 differs")


def test_minibatches_of_too_few_blocks_do_not_pass(work: Workload) -> None:
    mine = loaders(work, work.image)
    assert ours.mixed(mine.loader(ours.JITTERED), mine.jittered, least=8).passed
    found = ours.mixed(mine.loader(ours.JITTERED), mine.jittered, least=10)
    assert not found.passed
    assert "distinct blocks" in found.said


def test_quarters_hold_the_scenes_pixels_once_each(work: Workload, tmp_path: Path) -> None:
    cut_quarters(work.image, work.label, tmp_path, 256)
    with pytest.warns(NotGeoreferencedWarning):
        quarter = rasterio.open(tmp_path / "images" / "holdout.tif")
    with quarter, rasterio.open(work.image) as dataset:
        np.testing.assert_array_equal(quarter.read(), dataset.read()[:, 512:1024, :512])
        assert quarter.crs is None
    assert (tmp_path / "holdout.csv").read_text() == "image,label\nimages/holdout.tif,labels/holdout.tif\n"


def test_a_large_scene_is_the_small_one_mirrored(work: Workload, tmp_path: Path) -> None:
    folder = children.large_scene((work.image, work.label), tmp_path, 1500)
    with rasterio.open(work.image) as small, rasterio.open(folder / "images" / "large.tif") as large:
        pixels = small.read()
        np.testing.assert_array_equal(large.read()[:, :SIZE, :SIZE], pixels)
        np.testing.assert_array_equal(large.read()[:, SIZE:, :SIZE], pixels[:, ::-1][:, :400])
        assert large.descriptions == small.descriptions
