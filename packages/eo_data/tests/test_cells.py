"""Cells: one partition of the Earth, poles and 180th meridian included, that every grid agrees on."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from eo_data.cells import cell_at, cells_under, centre_of_cell, project
from eo_data.errors import DataRefused

SIDE = 5120.0
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
GEOD = Geod(ellps="WGS84")
longitudes, latitudes = st.floats(-180, 180), st.floats(-89.9, 89.9)


def at(longitude: float, latitude: float, crs: str, *, pixels: int = 64, step: float = 10.0, turn: float = 0) -> GeoBox:
    """An area whose centre lies there."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    place = Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(step, -step)
    return GeoBox((pixels, pixels), place @ Affine.translation(-pixels / 2, -pixels / 2), crs)


def utm(longitude: float, latitude: float, shift: int = 0) -> str:
    zone = (int((longitude + 180) // 6) + shift) % 60 + 1
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


def named(area: GeoBox, side: float = SIDE) -> set[str]:
    cells = cells_under(area, side)
    assert cells is not None
    return set(cells)


def inside(area: GeoBox, number: int = 40) -> list[tuple[float, float]]:
    """Longitude and latitude of points all over an area, its border included."""
    height, width = area.shape
    columns, rows = np.meshgrid(np.linspace(0, width, number), np.linspace(0, height, number))
    return list(zip(*project(area, columns.ravel(), rows.ravel()), strict=True))


@given(longitude=longitudes, latitude=st.floats(-83, 83), turn=st.floats(0, 90), step=st.floats(5, 150))
@quick
def test_every_point_of_an_area_lies_in_a_cell_that_is_named(
    longitude: float, latitude: float, turn: float, step: float
) -> None:
    area = at(longitude, latitude, utm(longitude, latitude), turn=turn, step=step)
    cells = named(area.pad(1))
    assert {cell_at(*point, SIDE) for point in inside(area)} <= cells


@given(longitude=longitudes, latitude=st.floats(-83, 83))
@quick
def test_no_cell_far_from_an_area_is_named(longitude: float, latitude: float) -> None:
    assume(abs(abs(latitude) - 60) > 0.1)  # there the cells of both grids are named
    area = at(longitude, latitude, utm(longitude, latitude))
    height, width = area.pad(1).shape
    along = np.linspace(0, 1, 150)
    zero, one = np.zeros_like(along), np.ones_like(along)
    columns, rows = np.concatenate([along, along, zero, one]), np.concatenate([zero, one, along, along])
    border = zip(*project(area.pad(1), columns * width, rows * height), strict=True)
    assert named(area) <= {cell_at(*point, SIDE) for point in border}  # it is smaller than a cell


@given(longitude=longitudes, latitude=latitudes)
@quick
def test_grids_of_neighbouring_zones_and_of_degrees_agree_on_the_cell(longitude: float, latitude: float) -> None:
    assume(abs(latitude) < 80)
    cell = cell_at(longitude, latitude, SIDE)
    for crs, step in ((utm(longitude, latitude), 1.0), (utm(longitude, latitude, 1), 1.0), ("EPSG:4326", 1e-5)):
        assert cell in named(at(longitude, latitude, crs, pixels=2, step=step))


@pytest.mark.parametrize("latitude", [-89.99, -75, -60.001, -59.999, -30, 0, 45, 59.999, 60.001, 72, 89.99])
def test_a_cell_holds_its_centre_and_has_one_area_everywhere(latitude: float) -> None:
    for longitude in (-179.99, -93.2, 0.5, 77.7, 179.9):
        centre = centre_of_cell(longitude, latitude, SIDE)
        if (abs(latitude) > 60) == (abs(centre[1]) > 60):  # cells of the two grids overlap at 60 degrees
            assert cell_at(*centre, SIDE) == cell_at(longitude, latitude, SIDE)
        distance = GEOD.inv(longitude, latitude, *centre)[2]
        assert distance < SIDE * 1.6  # half a diagonal; at 60 degrees the global grid is stretched by 1.7


def test_across_the_180th_meridian_cells_go_on_on_the_other_side() -> None:
    for crs in ("EPSG:32701", "EPSG:32760", "EPSG:3832"):
        area = at(180, -17, crs, pixels=1000)
        found = {cell_at(*point, SIDE) for point in inside(area, 120)}
        assert found <= named(area.pad(1))
        numbers = {int(name.split("/")[1]) for name in named(area)}
        assert min(numbers) < -3380
        assert max(numbers) > 3380
        assert len(numbers) <= 6


@pytest.mark.parametrize(("pole", "crs"), [(90, "EPSG:3413"), (90, "EPSG:3995"), (-90, "EPSG:3031")])
def test_the_cells_at_a_pole_are_like_any_others(pole: int, crs: str) -> None:
    area = at(30, pole, crs, pixels=1000)
    cells = named(area)
    word = "north" if pole > 0 else "south"
    assert {f"5120m-{word}/{x}/{y}" for x in (-1, 0) for y in (-1, 0)} <= cells
    assert len(cells) <= 16
    assert {cell_at(*point, SIDE) for point in inside(area.pad(-1))} <= cells


def test_in_degrees_what_goes_on_beyond_the_pole_comes_up_on_its_far_side() -> None:
    area = GeoBox((64, 64), Affine(0.001, 0, 10, 0, -0.001, 90), "EPSG:4326").pad(32)  # up to 90.032
    far = cell_at(10 + 180, 90 - 0.03, SIDE)
    assert far in named(area)


def test_at_60_degrees_the_cells_of_both_grids_are_named() -> None:
    area = at(10, 60, "EPSG:32632", pixels=200)
    assert {"north" in name for name in named(area)} == {True, False}
    assert {"north" in name for name in named(at(10, 60.1, "EPSG:32632"))} == {True}
    assert {"south" in name for name in named(at(10, -59.9, "EPSG:32732"))} == {False}


@pytest.mark.parametrize(
    ("transform", "crs"),
    [(Affine(10, 0, 400, 0, -10, 900), "EPSG:4326"), (Affine(10, 0, 5e8, 0, -10, 5e8), "EPSG:32630")],
)
def test_a_place_outside_the_world_is_refused(transform: Affine, crs: str) -> None:
    with pytest.raises(DataRefused, match="Check the CRS"):
        project(GeoBox((8, 8), transform, crs), np.array([4]), np.array([4]))


def test_a_crs_without_a_place_on_earth_is_refused() -> None:
    desk = GeoBox((8, 8), Affine(10, 0, 0, 0, -10, 0), 'LOCAL_CS["a desk",UNIT["metre",1]]')
    with pytest.raises(DataRefused, match="no place on Earth"):
        project(desk, np.array([4]), np.array([4]))
