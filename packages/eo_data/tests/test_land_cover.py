"""A map of classes in any CRS becomes the label of every scene it lies over, pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from eo_data import land_cover as land_cover_module
from eo_data.errors import DataRefused
from eo_data.ingest_labels import ingest_labels
from eo_data.labels import read_label
from eo_data.store import Store

from .conftest import write_tiff
from .label_scenes import bring, case, centres, ids, kept, land_cover_classes, scene

WORLD_COVER = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
CASE = land_cover_classes(*WORLD_COVER)
STEP = 1 / 12_000
"""ESA WorldCover's: 10 m at the equator, EPSG:4326."""


def world_cover(path: Path, west: float, north: float, shape: tuple[int, int] = (900, 1100), **how: Any) -> Path:
    values = np.random.default_rng(1).choice(np.array(WORLD_COVER, np.uint8), (1, *shape))
    transform = Affine(STEP, 0, west, 0, -STEP, north)
    return write_tiff(
        path, how.pop("values", values), **{"crs": "EPSG:4326", "transform": transform, "nodata": 0, **how}
    )


def looked_up(map_path: Path, image: Path | str, absent: int = 255) -> NDArray[Any]:
    """The map's value under each pixel centre of an image, computed on its own."""
    with rasterio.open(map_path) as dataset:
        values, crs, inverse = dataset.read(1), dataset.crs.to_wkt(), ~dataset.transform
    x, y = centres(image, crs)
    column = np.floor(inverse.a * x + inverse.b * y + inverse.c).astype(int)
    row = np.floor(inverse.d * x + inverse.e * y + inverse.f).astype(int)
    inside = (column >= 0) & (column < values.shape[1]) & (row >= 0) & (row < values.shape[0])
    result = np.full(x.shape, absent)
    result[inside] = values[row[inside], column[inside]]
    return result


def test_a_map_in_degrees_is_the_label_of_a_utm_scene_pixel_by_pixel(tmp_path: Path, store: Store) -> None:
    image = scene(tmp_path / "in", "s1", 600, origin=(500_003.7, 4_200_001.3))
    bring(store, tmp_path / "in")
    path = world_cover(tmp_path / "WorldCover_N36W003.tif", -3.001, 37.946)
    scenes, labels, tally = ingest_labels(store, CASE, str(path), progress=False)
    assert (ids(labels), tally.added, tally.waiting) == (["s1"], ["s1"], [])
    assert [one.id for one in scenes] == ["s1"]
    assert labels[0].source == "WorldCover_N36W003"
    values, nodata = kept(store, labels[0])
    expected = looked_up(path, image)
    assert values.dtype == np.uint8
    assert nodata == 255
    assert 0.5 < (expected != 255).mean() < 1  # the map ends within the scene
    assert np.array_equal(values, expected)
    with rasterio.open(image) as one, rasterio.open(store.raster_path(labels[0].key)) as other:
        assert (one.crs, one.transform, one.shape) == (other.crs, other.transform, other.shape)
    record = store.get_json(labels[0].record)
    assert record["values"] == {str(v): int((expected == v).sum()) for v in (*WORLD_COVER, 255)}


def test_the_same_map_again_is_there_already(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "in", "s1")
    bring(store, tmp_path / "in")
    path = world_cover(tmp_path / "map.tif", -3.001, 37.946)
    first = ingest_labels(store, CASE, str(path), progress=False)
    before = store.list("labels")
    again = ingest_labels(store, CASE, path.as_uri(), progress=False)
    assert again[:2] == first[:2]
    assert (again[2].added, again[2].present) == ([], ["s1"])
    assert store.list("labels") == before


def test_only_scenes_with_a_value_of_the_map_are_touched(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "in", "under")
    scene(tmp_path / "in", "far", origin=(700_000, 4_200_000))
    scene(tmp_path / "in", "elsewhere", crs="EPSG:32730", origin=(500_000, 5_800_000))
    scene(tmp_path / "in", "empty", origin=(500_000, 4_197_000))
    bring(store, tmp_path / "in")
    values = np.full((1, 900, 1100), 10, np.uint8)
    values[:, 250:] = 0  # its nodata
    path = world_cover(tmp_path / "map.tif", -3.001, 37.946, values=values)
    scenes, labels, tally = ingest_labels(store, CASE, str(path), progress=False)
    assert ids(labels) == [one.id for one in scenes] == tally.added == ["under"]
    assert {key.split("/")[1] for key in store.list("labels")} == {"under"}


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32631", Affine(7, 0, -32_000, 0, -7, 4_220_000)),  # the neighbouring zone
        ("EPSG:3857", Affine(9, 0, -334_500, 0, -9, 4_577_000)),
        ("EPSG:32630", Affine(10, 0, 499_000, 0, 10, 4_195_000)),  # south up
        ("EPSG:32630", Affine.translation(498_000, 4_199_000) @ Affine.rotation(30) @ Affine.scale(10, -10)),
        ("EPSG:3035", Affine(10, 0, 3_172_000, 0, -10, 1_753_000)),
    ],
)
def test_a_map_may_lie_in_any_crs_and_any_way(tmp_path: Path, store: Store, crs: str, transform: Affine) -> None:
    image = scene(tmp_path / "in", "s1", 100)
    bring(store, tmp_path / "in")
    values = np.random.default_rng(1).choice(np.array(WORLD_COVER, np.uint8), (1, 900, 1100))
    path = write_tiff(tmp_path / "map.tif", values, crs=crs, transform=transform)
    expected = looked_up(path, image)
    assert (expected != 255).any()
    _, labels, _ = ingest_labels(store, CASE, str(path), progress=False)
    assert np.array_equal(kept(store, labels[0])[0], expected)


@pytest.mark.parametrize("west", [-180.0, 0.0, 179.5])
def test_a_map_meets_a_scene_across_the_antimeridian(tmp_path: Path, store: Store, west: float) -> None:
    """Longitudes of a map run from -180, from 0, or beyond 180; the scene lies around 180 in its UTM zone."""
    image = scene(tmp_path / "in", "fiji", 200, crs="EPSG:32760", origin=(815_000, 8_130_000), step=100.0)
    bring(store, tmp_path / "in")
    lon, lat = centres(image, "EPSG:4326")
    assert (lon > 0).any()
    assert (lon < 0).any()
    step = 0.005
    width = 360 / step if west < 179 else 200
    values = np.random.default_rng(2).choice(np.array(WORLD_COVER, np.uint8), (1, 200, round(width)))
    path = write_tiff(tmp_path / "map.tif", values, crs="EPSG:4326", transform=Affine(step, 0, west, 0, -step, -16.5))
    _, labels, _ = ingest_labels(store, CASE, str(path), progress=False)
    column = np.floor(((lon - west) % 360) / step).astype(int)
    row = np.floor((-16.5 - lat) / step).astype(int)
    there = (column < values.shape[2]) & (row >= 0) & (row < 200)
    assert there.all()
    assert np.array_equal(kept(store, labels[0])[0], values[0, row, column])


def test_what_is_read_at_once_is_bounded_and_changes_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = scene(tmp_path / "in", "s1", 100, step=40.0)
    bring(store, tmp_path / "in")
    path = world_cover(tmp_path / "map.tif", -3.001, 37.946)
    windows: list[int] = []
    read = land_cover_module.LandCover._read
    monkeypatch.setattr(land_cover_module, "MOST_PIXELS", 5000)

    def watched(self: Any, window: Any) -> Any:
        windows.append(window.width * window.height)
        return read(self, window)

    monkeypatch.setattr(land_cover_module.LandCover, "_read", watched)
    _, labels, _ = ingest_labels(store, CASE, str(path), progress=False)
    assert np.array_equal(kept(store, labels[0])[0], looked_up(path, image))
    assert max(windows) <= 5000


def test_a_map_whose_255_is_a_value_keeps_it(tmp_path: Path, store: Store) -> None:
    image = scene(tmp_path / "in", "s1")
    bring(store, tmp_path / "in")
    values = np.full((1, 900, 1100), 255, np.uint8)
    values[:, :, 240:] = 10
    path = world_cover(tmp_path / "map.tif", -3.001, 37.946, values=values, nodata=None)
    for usecase in (land_cover_classes(10, 255), CASE):  # a class, or a value that nobody named
        _, labels, _ = ingest_labels(store, usecase, str(path), progress=False)
        stored, nodata = kept(store, labels[0])
        assert nodata == -1
        assert stored.dtype == np.int16
        assert np.array_equal(stored, looked_up(path, image, absent=-1))
    with pytest.raises(DataRefused, match="label values 255 stand for no class"):
        read_label(store.raster_path(labels[0].key), CASE.data, "s1")
    ignored = case(
        "c", classes=[{"name": n, "color": "#102030", "label_values": [v]} for n, v in (("a", 10), ("b", 20))]
    )
    _, labels, _ = ingest_labels(store, ignored, str(path), progress=False)
    assert kept(store, labels[0])[1] == 255  # the use case calls 255 ignored


def test_the_map_s_nodata_is_no_label_unless_the_use_case_calls_it_a_class(tmp_path: Path, store: Store) -> None:
    image = scene(tmp_path / "in", "s1", 32)
    bring(store, tmp_path / "in")
    values = np.random.default_rng(3).integers(0, 2, (1, 900, 1100)).astype(np.uint8)
    path = world_cover(tmp_path / "map.tif", -3.001, 37.946, values=values, nodata=0)
    expected = looked_up(path, image)
    _, labels, _ = ingest_labels(store, case(), str(path), progress=False)  # 0 is land
    assert np.array_equal(kept(store, labels[0])[0], expected)
    _, labels, _ = ingest_labels(store, land_cover_classes(1, 2), str(path), progress=False)
    assert np.array_equal(kept(store, labels[0])[0], np.where(expected == 0, 255, expected))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "int32", "float32", "float64"])
def test_whole_numbers_of_any_type_are_kept(tmp_path: Path, store: Store, dtype: str) -> None:
    image = scene(tmp_path / "in", "s1", 32)
    bring(store, tmp_path / "in")
    values = np.random.default_rng(3).integers(0, 2, (1, 900, 1100)).astype(dtype)
    if dtype.startswith("float"):
        values[:, ::7] = np.nan
    path = world_cover(tmp_path / "map.tif", -3.001, 37.946, values=values, nodata=None)
    _, labels, _ = ingest_labels(store, case(), str(path), progress=False)
    indexes = read_label(store.raster_path(labels[0].key), case().data, "s1")
    with rasterio.open(path) as dataset:
        (tmp_path / "plain.tif").unlink(missing_ok=True)
        plain = np.nan_to_num(dataset.read(1), nan=255).astype(np.uint8)
    write_tiff(
        tmp_path / "plain.tif", plain[None], crs="EPSG:4326", transform=Affine(STEP, 0, -3.001, 0, -STEP, 37.946)
    )
    assert np.array_equal(indexes, looked_up(tmp_path / "plain.tif", image))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"values": np.full((1, 900, 1100), 0.25, np.float32)}, r"values 0.25 are no class values"),
        ({"values": np.full((1, 900, 1100), 2**40, np.int64)}, r"at most 32 bits"),
        ({"values": np.zeros((2, 900, 1100), np.uint8)}, r"one band, this one has 2"),
        ({"crs": None}, r"without CRS and transform lies nowhere.*ID\.tif"),
        ({"crs": "EPSG:32630", "transform": Affine(10, 0, 0, 0, -10, 0)}, r"no scene of the store lies under it"),
    ],
)
def test_what_is_no_map_is_refused_by_name(tmp_path: Path, store: Store, how: dict[str, Any], said: str) -> None:
    scene(tmp_path / "in", "s1", 32)
    bring(store, tmp_path / "in")
    path = world_cover(tmp_path / "odd.tif", -3.001, 37.946, **how)
    with pytest.raises(DataRefused, match=said) as refusal:
        ingest_labels(store, CASE, str(path), progress=False)
    assert "odd.tif" in str(refusal.value)
    assert store.list("labels") == []


def test_a_damaged_map_is_refused_and_a_page_too(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "in", "s1", 32, origin=(500_000, 4_195_000))
    bring(store, tmp_path / "in")
    whole = world_cover(tmp_path / "cut.tif", -3.001, 37.946).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "page.tif").write_text("<html>")
    for name, said in (("cut", "truncated or damaged"), ("page", "no GeoTIFF")):
        with pytest.raises(DataRefused, match=said):
            ingest_labels(store, CASE, str(tmp_path / f"{name}.tif"), progress=False)
