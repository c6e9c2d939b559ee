"""Polygons become labels: pixels whose centre is inside, in any CRS, and nothing guessed where they disagree."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray

from eo_data.errors import DataRefused, UsageError
from eo_data.ingest_labels import ingest_labels
from eo_data.store import Store
from eo_data.usecase import UseCase

from .label_scenes import bring, case, centres, ids, kept, scene

X, Y = 500_000.0, 4_200_000.0
"""The upper left corner of the scenes here, EPSG:32630."""


def geojson(path: Path, features: list[tuple[Any, Any]], crs: str | None = None, attribute: str = "class") -> Path:
    """Write a FeatureCollection of (class, geometry)."""
    collection: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {attribute: name}, "geometry": json.loads(shapely.to_geojson(shape))}
            for name, shape in features
        ],
    }
    if crs is not None:
        collection["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{crs.replace(':', '::')}"}}
    path.write_text(json.dumps(collection))
    return path


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A box by pixels of the scene (10 m)."""
    return shapely.box(X + 10 * left, Y - 10 * bottom, X + 10 * right, Y - 10 * top)


def label(store: Store, path: Path, usecase: UseCase | None = None) -> NDArray[Any]:
    """The label that a file of polygons gives the one scene of a store."""
    _, labels, _ = ingest_labels(store, usecase or case(), str(path), progress=False)
    (one,) = labels
    return kept(store, one)[0]


@pytest.fixture
def image(tmp_path: Path, store: Store) -> Path:
    """A scene of 64 x 64 pixels of 10 m, in the store."""
    path = scene(tmp_path / "in", "s1")
    bring(store, tmp_path / "in")
    return path


def test_areas_are_exact_in_the_scene_s_own_crs(tmp_path: Path, store: Store, image: Path) -> None:
    shapes = [
        ("water", box(10, 20, 30, 40)),  # 20 x 20 pixels
        (
            "land",
            box(40.5, 0, 50.49, 10),
        ),  # the centre of column 40 is on its edge or out, of column 49 within... 50 out
        ("land", shapely.difference(box(0, 50, 10, 60), box(2, 52, 4, 54))),  # a hole of 4 pixels
    ]
    values = label(store, geojson(tmp_path / "drawn.geojson", shapes, "EPSG:32630"))
    assert values.dtype == np.uint8
    assert (values == 1).sum() == 400
    assert (values[20:40, 10:30] == 1).all()
    assert (values[50:60, :10] == 0).sum() == 96
    assert (values[52:54, 2:4] == 255).all()
    strip = values[:10, 39:52]
    assert (strip[:, 2:11] == 0).all()
    assert (strip[:, [0, 12]] == 255).all()


def test_polygons_in_degrees_are_burnt_where_pixel_centres_lie_in_them(
    tmp_path: Path, store: Store, image: Path
) -> None:
    lon, lat = centres(image, "EPSG:4326")
    middle = shapely.Point(lon.mean(), lat.mean())
    round_one = shapely.transform(middle.buffer(0.002, quad_segs=64), lambda xy: xy)
    long_edges = shapely.box(lon.min() - 0.5, lat.mean() + 0.0021, lon.max() + 0.5, lat.mean() + 0.5)
    values = label(store, geojson(tmp_path / "drawn.json", [("water", round_one), (0, long_edges)]))
    inside = shapely.contains_xy(round_one, lon, lat)
    above = shapely.contains_xy(long_edges, lon, lat)  # straight in degrees: its edges are curves on the scene
    assert inside.sum() > 500
    assert above.sum() > 200
    assert np.array_equal(values, np.select([inside, above], [1, 0], 255))


@pytest.mark.parametrize("crs", ["EPSG:32630", "EPSG:32631", "EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp"])
def test_any_file_and_crs_gives_the_same_label(
    tmp_path: Path, store: Store, image: Path, crs: str, suffix: str
) -> None:
    from pyproj import Transformer

    shapes = [box(8.2, 8.2, 20.3, 30.7), box(30.2, 8.2, 40.3, 30.7)]
    project = Transformer.from_crs("EPSG:32630", crs, always_xy=True)
    moved = [
        shapely.transform(shapely.segmentize(one, 5), lambda xy: np.column_stack(project.transform(*xy.T)))
        for one in shapes
    ]
    path = tmp_path / f"drawn{suffix}"
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(moved)), [np.array(["water", "land"], object)], ["class"],
        geometry_type="Polygon", crs=crs,
    )  # fmt: skip
    values = label(store, path)
    expected = np.full((64, 64), 255)
    expected[8:31, 8:20] = 1
    expected[8:31, 30:40] = 0
    assert np.array_equal(values, expected)


def test_what_two_classes_claim_is_not_scored_and_counted(
    tmp_path: Path, store: Store, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = [("water", box(0, 0, 20, 20)), ("water", box(5, 5, 25, 10)), ("land", box(10, 0, 30, 20))]
    with caplog.at_level(logging.WARNING):
        values = label(store, geojson(tmp_path / "drawn.geojson", shapes, "EPSG:32630"))
    expected = np.full((64, 64), 255)
    expected[:20, :10] = 1
    expected[:20, 20:30] = 0
    expected[5:10, 20:25] = 255
    assert np.array_equal(values, expected)
    assert "225 pixels of s1 are claimed by two classes" in caplog.text


def test_what_lies_outside_is_the_class_that_the_use_case_says(tmp_path: Path, store: Store, image: Path) -> None:
    shapes = [("water", box(0, 0, 20, 20)), (255, box(30, 30, 40, 40)), (-1, box(10, 10, 15, 15))]
    path = geojson(tmp_path / "drawn.geojson", shapes, "EPSG:32630")
    values = label(store, path, case(labels={"outside": "land"}))
    expected = np.zeros((64, 64))
    expected[:20, :20] = 1
    expected[30:40, 30:40] = 255  # what the use case ignores may be drawn too
    expected[10:15, 10:15] = 255
    assert np.array_equal(values, expected)
    with pytest.raises(UsageError, match=r"data\.labels: .*'sea' is none of the classes"):
        case(labels={"outside": "sea"})


def test_invalid_shapes_are_made_valid_and_counted(
    tmp_path: Path, store: Store, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bow = shapely.Polygon([(X, Y), (X + 200, Y - 200), (X + 200, Y), (X, Y - 200)])
    path = geojson(tmp_path / "drawn.geojson", [("water", bow), ("land", box(30, 0, 40, 10))], "EPSG:32630")
    with caplog.at_level(logging.WARNING):
        values = label(store, path)
    assert "1 invalid geometries were made valid" in caplog.text
    rows, columns = np.mgrid[0:20, 0:20] + 0.5
    left, right = (columns < rows) & (columns < 20 - rows), (columns > rows) & (columns > 20 - rows)
    off = np.abs(columns - rows) * np.abs(columns - 20 + rows) > 0  # centres on an edge may fall to either side
    assert np.array_equal((values[:20, :20] == 1)[off], (left | right)[off])


@pytest.mark.parametrize("crs", ["EPSG:32760", "EPSG:4326"])
@pytest.mark.parametrize("how", ["cut at 180", "beyond 180", "beyond -180"])
def test_polygons_meet_a_scene_across_the_antimeridian(tmp_path: Path, store: Store, crs: str, how: str) -> None:
    grid: dict[str, Any] = {"origin": (815_000, 8_130_000), "step": 100.0}
    if crs == "EPSG:4326":
        grid = {"transform": Affine(0.001, 0, 179.95, 0, -0.001, -16.9)}
    path = scene(tmp_path / "in", "fiji", 100, crs=crs, **grid)
    bring(store, tmp_path / "in")
    lon, lat = centres(path, "EPSG:4326")
    lon = lon % 360
    assert lon.min() < 180 < lon.max()
    west, east = 180 - (180 - lon.min()) / 2, 180 + (lon.max() - 180) / 2
    south, north = np.quantile(lat, [0.3, 0.8])
    drawn: Any = shapely.box(west, south, east, north)
    if how == "cut at 180":
        drawn = shapely.MultiPolygon(
            [shapely.box(west, south, 180, north), shapely.box(-180, south, east - 360, north)]
        )
    elif how == "beyond -180":
        drawn = shapely.box(west - 360, south, east - 360, north)
    values = label(store, geojson(tmp_path / "drawn.geojson", [("water", drawn)]))
    expected = (lon > west) & (lon < east) & (lat > south) & (lat < north)
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(values == 1, expected)


def test_only_scenes_with_a_pixel_inside_are_touched(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "in", "under")
    scene(tmp_path / "in", "beside", origin=(X + 640, Y))
    scene(tmp_path / "in", "plain", crs=None)
    (tmp_path / "in" / "items").mkdir()
    (tmp_path / "in" / "items" / "plain.json").write_text('{"properties": {"terraloop:place": "a lake"}}')
    bring(store, tmp_path / "in")
    path = geojson(tmp_path / "drawn.geojson", [("water", box(0, 0, 64.4, 64))], "EPSG:32630")
    _, labels, tally = ingest_labels(store, case(), str(path), progress=False)
    assert ids(labels) == tally.added == ["under"]
    again = ingest_labels(store, case(), str(path), progress=False)
    assert again[1] == labels
    assert again[2].present == ["under"]


BOX = box(0, 0, 9, 9)


def utm(path: Path, *features: tuple[Any, Any], attribute: str = "class") -> Path:
    return geojson(path, list(features), "EPSG:32630", attribute)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: utm(p, ("water", BOX), attribute="kind"), r"no attribute 'class' \(there is kind\).*land, water"),
        (lambda p: utm(p, ("sea", BOX)), r"class is 'sea', which stands for no class"),
        (lambda p: utm(p, (None, BOX), ("water", BOX)), r"class is None"),
        (lambda p: utm(p, (7, BOX)), r"class is 7, which stands for no class"),
        (lambda p: utm(p, ("water", box(9000, 0, 9009, 9))), r"no scene of the store lies under it"),
        (lambda p: utm(p, ("water", shapely.Point(X + 5, Y - 5))), r"no layer of polygons"),
        (lambda p: utm(p), r"no attribute 'class' \(there is none at all\)"),
        (lambda p: p.write_text("{"), r"cannot be read"),
        (lambda p: p.write_text("<html>"), r"cannot be read"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_fix(
    tmp_path: Path, store: Store, image: Path, make: Any, said: str
) -> None:
    make(tmp_path / "drawn.geojson")
    with pytest.raises(DataRefused, match=said) as refusal:
        ingest_labels(store, case(), str(tmp_path / "drawn.geojson"), progress=False)
    assert "drawn.geojson" in str(refusal.value)
    assert len(str(refusal.value).split(". ")) > 1  # what, then the fix
    assert store.list("labels") == []


def test_polygons_without_a_crs_are_refused(tmp_path: Path, store: Store, image: Path) -> None:
    path = tmp_path / "drawn.shp"
    with pytest.warns(UserWarning, match="crs"):
        pyogrio.raw.write(
            path, shapely.to_wkb(np.array([box(0, 0, 9, 9)])), [np.array(["water"], object)], ["class"],
            geometry_type="Polygon",
        )  # fmt: skip
    with pytest.raises(DataRefused, match=r"no CRS.*\.prj"):
        ingest_labels(store, case(), str(path), progress=False)
