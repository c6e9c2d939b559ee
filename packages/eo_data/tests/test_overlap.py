"""Which grids may lie over each other: boxes never miss an overlap, also at 180 degrees and near a pole."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from eo_data.overlap import Box, lonlat_box, places, transformer


def grid(crs: str, left: float, top: float, step: float, size: int = 100) -> GeoBox:
    return GeoBox((size, size), Affine(step, 0, left, 0, -step, top), crs)


GRIDS = {
    "zone 30": grid("EPSG:32630", 500_000, 4_200_000, 100),
    "zone 31": grid("EPSG:32631", 0, 4_300_000, 1000),
    "fiji west": grid("EPSG:32760", 780_000, 8_130_000, 100),
    "fiji east": grid("EPSG:32701", 160_000, 8_130_000, 100),
    "fiji across": grid("EPSG:4326", 179.5, -16.5, 0.01),
    "fiji from -180": grid("EPSG:4326", -180.5, -16.5, 0.01),
    "world": grid("EPSG:4326", -180, 90, 3.6),
    "world from 0": grid("EPSG:4326", 0, 90, 3.6),
    "north pole": grid("EPSG:3413", -2_000_000, 2_000_000, 40_000),
    "greenland": grid("EPSG:3413", -300_000, -1_000_000, 1000),
    "laea": grid("EPSG:3035", 2_900_000, 2_000_000, 10_000),
}


@pytest.mark.parametrize("one", GRIDS)
@pytest.mark.parametrize("other", GRIDS)
def test_grids_that_share_a_place_have_boxes_that_overlap(one: str, other: str) -> None:
    first, second = GRIDS[one], GRIDS[other]
    columns, rows = np.meshgrid(np.linspace(0.5, 99.5, 100), np.linspace(0.5, 99.5, 100))
    project = transformer(str(first.crs), str(second.crs))
    x, y = project.transform(*places(first.affine, columns, rows))
    turns = (0, 360, -360) if second.crs is not None and second.crs.geographic else (0,)
    shared = False
    for turn in turns:
        with np.errstate(invalid="ignore"):
            column, row = places(~second.affine, x + turn, y)
            shared |= bool(((column > 0) & (column < 100) & (row > 0) & (row < 100)).any())
    overlap = lonlat_box(first).overlaps(lonlat_box(second))
    assert overlap == lonlat_box(second).overlaps(lonlat_box(first))
    assert overlap or not shared


def test_grids_far_apart_do_not_overlap() -> None:
    box = {name: lonlat_box(one) for name, one in GRIDS.items()}
    assert not box["zone 30"].overlaps(box["fiji across"])
    assert not box["fiji east"].overlaps(box["laea"])
    assert not box["greenland"].overlaps(box["zone 30"])
    assert not box["north pole"].overlaps(box["fiji across"])
    assert not lonlat_box(grid("EPSG:32630", 500_000, 4_200_000, 10)).overlaps(
        lonlat_box(grid("EPSG:32630", 503_000, 4_200_000, 10))
    )


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (Box(179, 0, 181, 1), Box(-180, 0, -179.5, 1), True),
        (Box(179, 0, 181, 1), Box(-178, 0, -177, 1), False),
        (Box(-181, 0, -179, 1), Box(179.5, 0, 179.9, 1), True),
        (Box(0, 0, 360, 1), Box(-5, 0, -4, 1), True),
        (Box(0, 0, 1, 1), Box(0, 1.1, 1, 2), False),
        (Box(0, 0, 1, 1), Box(359.5, 0, 359.9, 1), False),
    ],
)
def test_longitudes_repeat(one: Box, other: Box, overlap: bool) -> None:
    assert one.overlaps(other) is overlap
    assert other.overlaps(one) is overlap
