"""Files of a band each become one GeoTIFF: which pixels, on which grid, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

from eo_data.errors import DataRefused
from eo_data.sources.compose import BandFile, compose
from eo_data.usecase import DataSection, UseCase

from .conftest import ROOT, write_tiff
from .sentinel2_files import CLASSES, COMMON, ORIGIN, SIZE, band_pixels, write_cog, write_jp2, write_scene

NAMES = (*COMMON, "SCL")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def composed(scene: Path) -> Path:
    compose(files(scene), l2a_data(), scene / "all.tif", where="scene")
    return scene / "all.tif"


@pytest.fixture
def l2a() -> DataSection:
    return l2a_data()


def l2a_data() -> DataSection:
    return UseCase.load(str(ROOT / "usecases" / "water-l2a")).data


def files(folder: Path, names: Sequence[str] = NAMES) -> list[BandFile]:
    return [BandFile(name, str(next(folder.glob(f"{name}.*")))) for name in names]


def with_grid(data: DataSection, **grid: Any) -> DataSection:
    return data.model_copy(update={"grid": data.grid.model_validate(grid)})


def read(path: Path) -> tuple[dict[str, NDArray[Any]], Any]:
    with rasterio.open(path) as dataset:
        pixels = dict(zip(dataset.descriptions, dataset.read(), strict=True))
    return pixels, dataset


def bilinear(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values of pixels of half the side, by the definition of bilinear interpolation; edges repeated."""
    padded = np.pad(values.astype(float), 1, mode="edge")
    near, far = padded[1:-1], (padded[:-2], padded[2:])
    rows = np.stack([0.75 * near + 0.25 * other for other in far], axis=1).reshape(-1, padded.shape[1])
    near, far = rows[:, 1:-1], (rows[:, :-2], rows[:, 2:])
    return np.stack([0.75 * near + 0.25 * other for other in far], axis=2).reshape(rows.shape[0], -1)


def test_bands_on_the_grid_are_taken_as_they_are_and_coarser_ones_are_interpolated_between_their_centres(
    composed: Path,
) -> None:
    bands, dataset = read(composed)
    assert tuple(bands) == (*COMMON, "SCL")
    assert (dataset.crs.to_epsg(), dataset.shape, dataset.nodata) == (32632, (SIZE, SIZE), 0)
    assert dataset.transform == Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
    with rasterio.open(composed) as opened:
        assert (opened.profile["compress"], opened.block_shapes[0], opened.dtypes[0]) == (
            "deflate",
            (512, 512),
            "uint16",
        )
    for name in ("B02", "B03", "B04", "B08"):
        np.testing.assert_array_equal(bands[name], band_pixels(name))
    for name in ("B11", "B12"):
        expected = bilinear(band_pixels(name))
        inside = np.s_[72:-2, 72:-2]  # away from what has no data
        assert np.abs(bands[name][inside] - expected[inside]).max() <= 0.5 + 1e-3
        coarse = bands[name][128:, 128:].reshape(448, 2, 448, 2).mean(axis=(1, 3))
        assert np.abs(coarse - band_pixels(name)[64:, 64:]).mean() < 3  # the blocks' centres are the coarse pixels'


def test_no_class_arises_between_classes(composed: Path) -> None:
    classes = read(composed)[0]["SCL"]
    assert set(np.unique(classes)) <= {0, *CLASSES}
    np.testing.assert_array_equal(classes, band_pixels("SCL").repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("kind", ["tif", "jp2"])
def test_values_without_data_are_not_mixed_into_those_with(l2a: DataSection, tmp_path: Path, kind: str) -> None:
    """Also where the file cannot declare its nodata value: JP2 takes that of the use case."""
    pixels = np.full((64, 64), 2000, np.uint16)
    pixels[:20] = 0
    coarse = (write_jp2 if kind == "jp2" else write_cog)(tmp_path / f"B11.{kind}", pixels, 20)
    fine = write_cog(tmp_path / "B02.tif", np.full((128, 128), 7, np.uint16), 10)
    data = l2a.model_copy(update={"inputs": ("B02", "B11")})
    compose([BandFile("blue", str(fine)), BandFile("B11", str(coarse))], data, tmp_path / "all.tif", where="scene")
    band = read(tmp_path / "all.tif")[0]["B11"]
    assert set(np.unique(band)) == {0, 2000}
    assert (band[:39] == 0).all()
    assert (band[41:] == 2000).all()


def test_the_strips_have_no_seams(
    scene: Path, composed: Path, l2a: DataSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eo_data.sources.compose.STRIP", SIZE)
    compose(files(scene), l2a, tmp_path / "whole.tif", where="scene")
    with rasterio.open(composed) as strips, rasterio.open(tmp_path / "whole.tif") as whole:
        np.testing.assert_array_equal(strips.read(), whole.read())


def test_the_rule_decides_resolution_and_crs(scene: Path, l2a: DataSection, tmp_path: Path) -> None:
    compose(files(scene), with_grid(l2a, resolution=20), tmp_path / "coarse.tif", where="scene")
    bands, dataset = read(tmp_path / "coarse.tif")
    assert dataset.transform == Affine(20, 0, ORIGIN[0], 0, -20, ORIGIN[1])
    np.testing.assert_array_equal(bands["B11"], band_pixels("B11"))
    compose(files(scene), with_grid(l2a, resolution=30), tmp_path / "other.tif", where="scene")
    dataset = read(tmp_path / "other.tif")[1]
    assert dataset.transform == Affine(30, 0, ORIGIN[0], 0, -30, ORIGIN[1])
    assert dataset.shape == (342, 342)
    data = with_grid(l2a, crs="EPSG:32633", resolution=40)
    compose(files(scene), data, tmp_path / "warped.tif", where="scene")
    bands, dataset = read(tmp_path / "warped.tif")
    assert (dataset.crs.to_epsg(), dataset.res) == (32633, (40, 40))
    assert set(np.unique(bands["SCL"])) <= {0, *CLASSES}
    with rasterio.open(scene / "SCL.tif") as source:  # a class lies where it lay
        x, y = rasterio.warp.transform("EPSG:32633", "EPSG:32632", *([value] for value in dataset.xy(130, 120)))
        row, column = source.index(x[0], y[0])
        assert bands["SCL"][130, 120] == source.read(1)[row, column] != 0


def test_an_area_is_cut_to_whole_pixels_of_the_scene(scene: Path, l2a: DataSection, tmp_path: Path) -> None:
    corners = rasterio.warp.transform("EPSG:32632", "EPSG:4326", [602_503, 604_007], [5_093_001, 5_094_999])
    area = (corners[0][0], corners[1][0], corners[0][1], corners[1][1])
    compose(files(scene), l2a, tmp_path / "cut.tif", where="scene", area=area)
    bands, dataset = read(tmp_path / "cut.tif")
    left, top = dataset.transform.c, dataset.transform.f
    assert ((left - ORIGIN[0]) % 10, (ORIGIN[1] - top) % 10) == (0, 0)
    column, row = round((left - ORIGIN[0]) / 10), round((ORIGIN[1] - top) / 10)
    window = np.s_[row : row + dataset.height, column : column + dataset.width]
    np.testing.assert_array_equal(bands["B08"], band_pixels("B08")[window])
    bounds = dataset.bounds
    assert bounds.left <= 602_503 <= bounds.left + 60  # the area is a box in degrees, a little askew here
    assert bounds.bottom <= 5_093_001 <= bounds.bottom + 60
    with pytest.raises(DataRefused, match="does not reach into the area"):
        compose(files(scene), l2a, tmp_path / "away.tif", where="scene", area=(-70, -10, -69, -9))
    assert not list(tmp_path.glob("away*"))


@pytest.mark.parametrize("west", [177.5, -182.5])
def test_an_area_across_the_180th_meridian_is_found_from_both_sides(
    l2a: DataSection, tmp_path: Path, west: float
) -> None:
    paths = [
        write_tiff(tmp_path / f"{name}.tif", np.full((1, 50, 50), 9, np.uint16), crs="EPSG:32601", nodata=0,
                   origin=(200_000 if west > 0 else 208_000, 60_000), step=1000)
        for name in ("B02", "B03")
    ]  # fmt: skip
    data = with_grid(l2a.model_copy(update={"inputs": ("B02",)}))
    offered = [BandFile(path.stem, str(path)) for path in paths]
    compose(offered, data, tmp_path / "cut.tif", where="scene", area=(179.5, 0.0, -179.6, 1.0))
    _, dataset = read(tmp_path / "cut.tif")
    assert dataset.shape[1] < 50
    compose(offered, data, tmp_path / "cut.tif", where="scene", area=(-180, -90, 180, 90))
    assert read(tmp_path / "cut.tif")[1].shape == (50, 50)


def test_a_south_up_raster_is_turned(l2a: DataSection, tmp_path: Path) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(1, 64, 64) + 1
    up = write_tiff(tmp_path / "B02.tif", pixels, transform=Affine(10, 0, 5e5, 0, 10, 4e6), nodata=0)
    data = l2a.model_copy(update={"inputs": ("B02",)})
    compose([BandFile("B02", str(up))], data, tmp_path / "all.tif", where="scene")
    bands, dataset = read(tmp_path / "all.tif")
    np.testing.assert_array_equal(bands["B02"], pixels[0, ::-1])
    assert dataset.transform == Affine(10, 0, 5e5, 0, -10, 4e6 + 640)


def test_scale_and_offset_of_the_files_are_kept_band_by_band(l2a: DataSection, tmp_path: Path) -> None:
    for name, offset in (("B02", -0.1), ("B03", 0.0)):
        path = write_tiff(tmp_path / f"{name}.tif", np.ones((1, 32, 32), np.uint16), nodata=0)
        with rasterio.open(path, "r+") as dataset:
            dataset.scales, dataset.offsets = (0.0001,), (offset,)
    data = l2a.model_copy(update={"inputs": ("B02", "B03")})
    compose(files(tmp_path, ("B02", "B03")), data, tmp_path / "all.tif", where="scene")
    with rasterio.open(tmp_path / "all.tif") as dataset:
        assert (dataset.scales, dataset.offsets) == ((0.0001, 0.0001), (-0.1, 0.0))


def _gcps(path: Path) -> None:
    write_tiff(path, np.ones((1, 32, 32), np.uint16), crs=None)
    points = [GroundControlPoint(r, c, 10 + c / 100, 45 - r / 100) for r, c in ((0, 0), (0, 32), (32, 0), (32, 32))]
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, "EPSG:4326")


def _truncated(path: Path) -> None:
    write_tiff(path, np.random.default_rng(0).integers(0, 9999, (1, 32, 32)).astype(np.uint16))
    path.write_bytes(path.read_bytes()[:1200])


def _rotated(path: Path) -> None:
    write_tiff(path, np.ones((1, 32, 32), np.uint16), transform=Affine.translation(5e5, 4e6) @ Affine.rotation(20))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_gcps, "ground control points, but no CRS"),
        (_rotated, "the grid is rotated"),
        (_truncated, "truncated or damaged"),
        (lambda path: write_tiff(path, np.ones((1, 32, 32), np.uint16), crs=None), "no CRS"),
        (lambda path: write_tiff(path, np.ones((1, 32, 32), np.float32)), "B03 is float32, band B02 is uint16"),
        (lambda path: write_tiff(path, np.ones((1, 32, 32), np.uint16), nodata=7), "B03 declares nodata 7"),
        (lambda path: write_tiff(path, np.ones((1, 32, 32), np.uint16), crs="EPSG:32631"), "another CRS"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("<!DOCTYPE html><html>sign in</html>"), "an HTML page"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "neither a GeoTIFF nor a JP2"),
        (lambda path: path.write_text("<VRTDataset></VRTDataset>"), "neither a GeoTIFF nor a JP2"),
        (lambda path: None, "there is no such file"),
    ],
)
def test_what_cannot_stand_in_one_file_is_refused_by_name_and_nothing_is_left(
    l2a: DataSection, tmp_path: Path, make: Callable[[Path], Any], told: str
) -> None:
    write_tiff(tmp_path / "B02.tif", np.ones((1, 32, 32), np.uint16), nodata=0)
    make(tmp_path / "B03.tif")
    offered = [BandFile(name, str(tmp_path / f"{name}.tif")) for name in ("B02", "B03")]
    (tmp_path / "out").mkdir()
    data = l2a.model_copy(update={"inputs": ("B02", "B03")})
    with pytest.raises(DataRefused, match=told) as caught:
        compose(offered, data, tmp_path / "out" / "all.tif", where="scene")
    assert caught.value.where in {str(tmp_path / "B03.tif"), "scene"}
    assert caught.value.fix
    assert not list((tmp_path / "out").iterdir())


def test_a_missing_band_is_named_with_what_was_offered(scene: Path, l2a: DataSection, tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"band B08 is missing \(offered: B02, B03, B04, B11, B12\)"):
        compose(files(scene, ("B02", "B03", "B04", "B11", "B12")), l2a, tmp_path / "x.tif", where="scene")
    with pytest.raises(DataRefused, match="band B02 stands 2 times"):
        compose([*files(scene), BandFile("blue", "b.tif")], l2a, tmp_path / "x.tif", where="scene")


def test_a_scene_too_large_to_be_learned_from_is_refused_before_it_is_read(
    scene: Path, l2a: DataSection, tmp_path: Path
) -> None:
    data = l2a.model_copy(update={"expectations": l2a.expectations.model_copy(update={"max_size": 2000})})
    with pytest.raises(DataRefused, match=r"2560 x 2560 pixels, data.expectations.max_size is 2000"):
        compose(files(scene), with_grid(data, resolution=4), tmp_path / "x.tif", where="scene")


def test_the_real_scene_keeps_its_pixels(test_data: Path, l2a: DataSection, tmp_path: Path) -> None:
    """Bands of 100, 200 and 600 m; B08 is not among the files."""
    folder = test_data / "scenes" / "sentinel-2-l2a-cogs" / "S2A_29RKH_20200219_0_L2A"
    data = with_grid(l2a.model_copy(update={"inputs": ("B02", "B03", "B11")}))
    names = ("B01", "B02", "B03", "B04", "B8A", "B11", "B12", "SCL")
    compose(files(folder, names), data, tmp_path / "all.tif", where="scene")
    bands, dataset = read(tmp_path / "all.tif")
    assert tuple(bands) == names
    for name in names:
        with rasterio.open(folder / f"{name}.tif") as source:
            factor, pixels = dataset.height // source.height, source.read(1)
            assert dataset.bounds == source.bounds
        if factor == 1:
            np.testing.assert_array_equal(bands[name], pixels)
        elif name == "SCL":
            np.testing.assert_array_equal(bands[name], pixels.repeat(factor, 0).repeat(factor, 1))
        else:
            means = bands[name].reshape(*pixels.shape[:1], factor, -1, factor).mean(axis=(1, 3))
            difference = (means - pixels)[1:-1, 1:-1]
            assert abs(np.median(difference)) < 5
            assert np.corrcoef(means.ravel(), pixels.ravel())[0, 1] > 0.97


def test_a_scene_far_coarser_than_the_grid_is_refused(scene: Path, l2a: DataSection, tmp_path: Path) -> None:
    target = tmp_path / "scene.tif"
    with pytest.raises(DataRefused, match=r"^scene: the finest input band, B02, has pixels of 10, .* is 3\. Bring"):
        compose(files(scene), with_grid(l2a, resolution=3), target, where="scene")
    assert not target.exists()
