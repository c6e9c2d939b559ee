"""South-up rasters are turned, with equal pixels; footprints are valid GeoJSON everywhere on Earth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import ColorInterp
from shapely.geometry import Point, shape

from eo_data import decoding
from eo_data.georeference import north_up
from eo_data.ingest import ingest
from eo_data.items import footprint
from eo_data.scene import Scene
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS, write_tiff

WATER = UseCase.load(str(ROOT / "usecases" / "water"))
PIXELS = np.random.default_rng(0).integers(500, 3000, (13, 48, 40)).astype(np.uint16)
LABEL = (PIXELS[:1] % 2).astype(np.uint8)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_200_000)
SOUTH_UP = Affine(10, 0, 500_000, 0, 10, 4_200_000 - 48 * 10)


def pair(root: Path, *, turned: bool) -> Path:
    step, place = (-1, SOUTH_UP) if turned else (1, NORTH_UP)
    write_tiff(root / "images" / "s1.tif", PIXELS[:, ::step], names=S2_BANDS, transform=place, nodata=0)
    write_tiff(root / "labels" / "s1.tif", LABEL[:, ::step], transform=place, nodata=255)
    return root


def test_a_south_up_pair_is_the_pair_turned(tmp_path: Path) -> None:
    batches = []
    for turned in (True, False):
        store = Store(str(tmp_path / f"store-{turned}"))
        result = ingest(store, WATER, str(pair(tmp_path / f"{turned}" / "pairs", turned=turned)), progress=False)
        batches.append(result["batch"].rpartition("/")[2])
        with rasterio.open(Scene.find(store, "s1").raster_path) as dataset:
            assert np.array_equal(dataset.read(), PIXELS)
            assert dataset.transform == NORTH_UP
            assert dataset.descriptions == S2_BANDS
            assert dataset.nodata == 0
        (label,) = [key for key in store.list("labels") if key.endswith(".tif")]
        with rasterio.open(store.raster_path(label)) as dataset:
            assert np.array_equal(dataset.read(), LABEL)
            assert dataset.transform == NORTH_UP
    assert batches[0] == batches[1]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "float32", "float64", "complex64"])
def test_turning_keeps_all_that_a_file_says(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "STRIP_BYTES", 4000)  # a few rows at a time
    values = (PIXELS[:4] % 100).astype(dtype)
    path = write_tiff(tmp_path / "south.tif", values[:, ::-1], transform=SOUTH_UP, names=("a", "b", "c", "d"))
    mask = np.zeros((48, 40), np.uint8)
    mask[3:9, 5:] = 255
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask[::-1])
        dataset.scales, dataset.offsets = (0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4)
        dataset.units = ("m", "K", "dB", "1")
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    turned = north_up(path, "s1", tmp_path, "image")
    with rasterio.open(turned) as dataset, rasterio.open(path) as before:
        assert np.array_equal(dataset.read(), values)
        assert np.array_equal(dataset.dataset_mask(), mask)
        assert dataset.transform == NORTH_UP
        for field in ("dtypes", "descriptions", "scales", "offsets", "units", "colorinterp", "nodata", "crs"):
            assert getattr(dataset, field) == getattr(before, field)


@pytest.mark.parametrize("crs", ["EPSG:32630", None])
def test_what_needs_no_turning_is_left_alone(tmp_path: Path, crs: str | None) -> None:
    path = write_tiff(tmp_path / "image.tif", PIXELS, crs=crs)  # without georeference a transform runs down too
    assert north_up(path, "s1", tmp_path, "image") == path


def placed(path: Path, crs: str, transform: Affine, size: int = 100) -> tuple[dict[str, Any], list[float]]:
    write_tiff(path, np.zeros((1, size, size), np.uint8), crs=crs, transform=transform)
    with rasterio.open(path) as dataset:
        geometry, box = footprint(dataset)
    assert geometry is not None
    assert box is not None
    return geometry, box


@pytest.mark.parametrize("south_up", [False, True])
@pytest.mark.parametrize(
    ("crs", "place", "kind"),
    [
        ("EPSG:32630", Affine(1000, 0, 5e5, 0, -1000, 4.2e6), "plain"),
        ("EPSG:32630", Affine(1000, 0, 5e5, 0, -1000, 4.2e6) @ Affine.rotation(30), "plain"),
        ("EPSG:32601", Affine(1000, 0, 3.5e5, 0, -1000, 1e5), "plain"),
        ("EPSG:32601", Affine(1000, 0, 3e5, 0, -1000, 7e6), "crossing"),
        ("EPSG:32701", Affine(1000, 0, 1e5, 0, -1000, 8e6), "crossing"),
        ("EPSG:32660", Affine(1000, 0, 6e5, 0, -1000, 7e6), "crossing"),
        ("EPSG:32760", Affine(1000, 0, 7.9e5, 0, -1000, 8e6), "crossing"),
        ("EPSG:3413", Affine(10_000, 0, -5e5, 0, -10_000, 5e5), "pole"),
        ("EPSG:3031", Affine(10_000, 0, -2e5, 0, -10_000, 7e5), "pole"),
        ("EPSG:3413", Affine(2000, 0, -1.1e6, 0, -2000, 1.1e6), "crossing"),
        ("EPSG:3031", Affine(2000, 0, -1e5, 0, -2000, -1e6), "crossing"),
        ("EPSG:3413", Affine(2000, 0, 5e5, 0, -2000, -5e5), "plain"),
        ("EPSG:4326", Affine(0.05, 0, 178, 0, -0.05, 8), "crossing"),
        ("EPSG:4326", Affine(0.05, 0, 175, 0, -0.05, 8), "plain"),  # up to the meridian, not across
    ],
)
def test_a_footprint_holds_what_the_raster_holds(
    tmp_path: Path, crs: str, place: Affine, kind: str, south_up: bool
) -> None:
    if south_up:
        place = place @ Affine.translation(0, 100) @ Affine.scale(1, -1)
    geometry, (west, south, east, north) = placed(tmp_path / "image.tif", crs, place)
    area = shape(geometry)
    assert area.is_valid
    assert geometry["type"] == ("MultiPolygon" if kind == "crossing" else "Polygon")
    assert (west > east) is (kind == "crossing")
    assert -180 <= min(west, east) < max(west, east) <= 180
    if kind == "pole":
        assert (west, east) == (-180, 180)
        assert 90 in {-south, north}
    rng = np.random.default_rng(0)
    for column, row, within in [
        *[(*point, True) for point in rng.uniform(1, 99, (100, 2))],
        *[(*point, False) for point in rng.uniform(-60, 160, (100, 2)) if not (min(point) > -1 and max(point) < 101)],
    ]:
        lon, lat = to_degrees(crs, place @ (column, row))
        assert area.contains(Point(lon, lat)) is within, (column, row)
        in_box = south <= lat <= north and (west <= lon <= east if west <= east else lon >= west or lon <= east)
        assert in_box or not within


def to_degrees(crs: str, point: tuple[float, float]) -> tuple[float, float]:
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*point)
    return (lon + 180) % 360 - 180, lat


def test_a_footprint_follows_the_curve_of_an_edge(tmp_path: Path) -> None:
    place = Affine(10_000, 0, -5e5, 0, -10_000, -1.5e6)
    _, box = placed(tmp_path / "image.tif", "EPSG:3413", place)
    assert box[3] == pytest.approx(to_degrees("EPSG:3413", place @ (50, 0))[1])  # nearer the pole than the corners
    assert box[3] > to_degrees("EPSG:3413", place @ (0, 0))[1] + 0.5


@pytest.mark.parametrize("west", [-180, 0])
def test_a_raster_of_the_whole_earth_has_one_box(tmp_path: Path, west: int) -> None:
    geometry, box = placed(tmp_path / "image.tif", "EPSG:4326", Affine(3.6, 0, west, 0, -1.6, 80))
    assert box == [-180, -80, 180, 80]
    assert shape(geometry).area == 360 * 160


def test_a_scene_across_the_meridian_is_stored_with_its_footprint(tmp_path: Path) -> None:
    place = Affine(10, 0, 8.16e5, 0, -10, 8e6)
    write_tiff(tmp_path / "source" / "images" / "s1.tif", PIXELS.repeat(8, 2), crs="EPSG:32760", transform=place)
    store = Store(str(tmp_path / "store"))
    ingest(store, WATER, str(tmp_path / "source"), progress=False)
    item = Scene.find(store, "s1").stac()
    assert item.bbox is not None
    assert item.bbox[0] > 179 > -179 > item.bbox[2]
    assert shape(item.geometry).is_valid
