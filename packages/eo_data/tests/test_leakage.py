"""Leakage: chips of different sides lie at least one chip apart on the ground, whatever else there is (design 4.2)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from eo_data.cutting import chip_grid
from eo_data.split import Placement, place_chip
from eo_data.usecase import SplitRule

SIZE = 32
METRES = 40.0  # a chip is as large as the product's, 1280 m
GEOD = Geod(ellps="WGS84")
RULE = SplitRule(salt="leakage", cell=5120)


def scene(longitude: float, latitude: float, crs: str, *, pixels: int, offset: tuple[float, float] = (0, 0)) -> GeoBox:
    """A scene around a place, shifted by metres."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    half = pixels * METRES / 2
    return GeoBox((pixels, pixels), Affine(METRES, 0, x - half + offset[0], 0, -METRES, y + half + offset[1]), crs)


def chips(grid: GeoBox, rule: SplitRule = RULE) -> list[tuple[GeoBox, Placement | None]]:
    """Every chip of a scene, as `chip` cuts it, with its side."""
    places = [(top, left) for top in range(0, grid.shape[0], SIZE) for left in range(0, grid.shape[1], SIZE)]
    found = [chip_grid(grid, top, left, SIZE) for top, left in places]
    return [(one, place_chip(rule, one, margin=SIZE // 2)) for one in found]


def outlines(grids: list[GeoBox], longitude: float, latitude: float) -> NDArray[np.object_]:
    """The chips as polygons in metres on a plane that is true around a place, to some parts in a million."""
    plane = f"+proj=laea +lon_0={longitude} +lat_0={latitude} +ellps=WGS84"
    to_plane = {crs: Transformer.from_crs(crs, plane, always_xy=True) for crs in {str(grid.crs) for grid in grids}}
    polygons = []
    for grid in grids:
        height, width = grid.shape
        columns, rows = np.array([0, width, width, 0]), np.array([0, 0, height, height])
        place = grid.affine
        x, y = place.a * columns + place.c, place.e * rows + place.f
        corners = to_plane[str(grid.crs)].transform(x, y)
        polygons.append(shapely.Polygon(np.stack(corners, axis=1)))
    return np.array(polygons, dtype=object)


def least_distance(grids: list[GeoBox]) -> tuple[float, float, int]:
    """Least distance of chips of different sides, the least side of a chip, both metres, and how many were kept."""
    placed = [(one, placement) for grid in grids for one, placement in chips(grid) if placement is not None]
    x, y = grids[0].extent.centroid.coords[0]
    longitude, latitude = Transformer.from_crs(str(grids[0].crs), "EPSG:4326", always_xy=True).transform(x, y)
    polygons = outlines([one for one, _ in placed], longitude, latitude)
    sides = np.array([placement.split for _, placement in placed])
    assert len(set(sides)) > 1
    least = min(
        float(shapely.distance(polygons[sides == first][:, None], polygons[sides == second][None]).min())
        for first, second in combinations(sorted(set(sides)), 2)
    )
    whole = [p for p, (one, _) in zip(polygons, placed, strict=True) if one.shape == (SIZE, SIZE)]
    return least, float(np.sqrt(min(shapely.area(whole)))), len(placed)


@pytest.mark.parametrize(
    ("longitude", "latitude", "grids"),
    [
        (3.0, 45.0, ("EPSG:32631", "EPSG:32631")),  # two dates on shifted grids
        (6.0, 45.0, ("EPSG:32631", "EPSG:32632")),  # the overlap of two UTM zones
        (6.0, 45.0, ("EPSG:32631", "EPSG:3035")),
        (12.0, 60.0, ("EPSG:32632", "EPSG:32633")),  # where the polar cells begin
        (12.0, -60.0, ("EPSG:32732", "EPSG:3031")),
        (100.0, 78.0, ("EPSG:32647", "EPSG:3413")),
        (0.0, 90.0, ("EPSG:3413", "EPSG:3995")),
        (140.0, -89.95, ("EPSG:3031", "EPSG:32754")),
        (180.0, -17.0, ("EPSG:32701", "EPSG:32760")),
        (180.0, 66.0, ("EPSG:32601", "EPSG:32660")),
    ],
)
def test_scenes_of_one_place_on_other_dates_and_grids_never_bring_sides_near(
    longitude: float, latitude: float, grids: tuple[str, str]
) -> None:
    rng = np.random.default_rng(int(abs(longitude) * 100 + abs(latitude)))
    offsets = rng.uniform(-1500, 1500, (3, 2))
    scenes = [scene(longitude, latitude, crs, pixels=512, offset=tuple(o)) for crs in grids for o in offsets]
    least, one_chip, number = least_distance(scenes)
    assert number > 100
    assert least >= one_chip


def test_distances_are_those_of_geodesics() -> None:
    """The plane that the other tests measure on, against the ellipsoid."""
    grid = scene(6.0, 45.0, "EPSG:32631", pixels=700)
    first, last = (chip_grid(grid, k, k, SIZE) for k in (0, 640))
    polygons = outlines([first, last], 6.0, 45.0)
    to_degrees = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    near = to_degrees.transform(first.affine.c + SIZE * METRES, first.affine.f - SIZE * METRES)
    far = to_degrees.transform(last.affine.c, last.affine.f)
    assert shapely.distance(*polygons) == pytest.approx(GEOD.inv(*near, *far)[2], rel=1e-4)


def test_a_scene_falls_on_several_sides_and_still_gives_chips() -> None:
    placed = [placement for _, placement in chips(scene(3.0, 45.0, "EPSG:32631", pixels=2000))]
    kept = [placement for placement in placed if placement is not None]
    assert {placement.split for placement in kept} == {"train", "validation", "holdout", "test"}
    assert len(kept) > len(placed) / 4
    by_cell: dict[str, set[str]] = {}
    for placement in kept:
        by_cell.setdefault(placement.cell, set()).add(placement.split)
    assert all(len(sides) == 1 for sides in by_cell.values())


def test_a_chip_has_its_side_whichever_scenes_came_before() -> None:
    """A dataset that grows: sides are asked for in any order, and again."""
    scenes = [scene(3.0 + k / 50, 45.0, "EPSG:32631", pixels=300) for k in range(6)]
    first = [placement for grid in scenes for _, placement in chips(grid)]
    again = [placement for grid in reversed(scenes) for _, placement in chips(grid)]
    count = len(first) // 6
    assert [again[k * count : (k + 1) * count] for k in range(6)][::-1] == [
        first[k * count : (k + 1) * count] for k in range(6)
    ]


@pytest.mark.parametrize(("latitude", "step"), [(0.0, 2e-3), (45.0, 4e-4), (59.9, 4e-4), (75.0, 4e-4), (89.0, 4e-4)])
def test_on_a_grid_of_degrees_sides_are_a_chips_width_and_height_apart(latitude: float, step: float) -> None:
    rule = SplitRule(salt="degrees", cell=20000)
    grid = GeoBox((1024, 1024), Affine(step, 0, 20, 0, -step, latitude + 512 * step), "EPSG:4326")
    placed = [(one, placement) for one, placement in chips(grid, rule) if placement is not None]
    if latitude < 89:
        assert len({placement.split for _, placement in placed}) > 1
    boxes = np.array([tuple(one.boundingbox) for one, _ in placed]).reshape(-1, 4)
    sides = np.array([placement.split for _, placement in placed])
    gaps = [boxes[:, None, k] - boxes[None, :, k + 2] for k in (0, 1)]
    apart = np.max([np.maximum(gap, gap.T) for gap in gaps], axis=0)[sides[:, None] != sides[None]]
    assert (apart >= SIZE * step * (1 - 1e-9)).all()  # in columns or in rows, a whole chip lies between
