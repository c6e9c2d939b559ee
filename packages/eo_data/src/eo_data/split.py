"""The split (design 4.2): which side a place is on, a pure function of the place and the use case's salt.

What else is present never enters, so a place keeps its side as data grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from eo_data.errors import DataRefused
from eo_data.usecase import SPLITS, Split, SplitRule

if TYPE_CHECKING:
    from pyproj import Transformer

EQUAL_AREA: Final = "EPSG:6933"
"""NSIDC EASE-Grid 2.0 Global: cells of one size everywhere, and one grid for every UTM zone."""

_HALF_WAY: Final = 17_367_530.45
"""EPSG:6933's x of 180 degrees east, metres."""

_FARTHEST: Final = 7_324_184.57
"""EPSG:6933's y of 86 degrees north, metres."""


@dataclass(frozen=True)
class Placement:
    """Where a chip lies: its side and its cell."""

    split: Split
    cell: str


def side(rule: SplitRule, place: str, shares: Mapping[Split, float] | None = None) -> Split:
    """The side of a place, by its hash: shares of the unit interval in the order train ... test."""
    number = int.from_bytes(hashlib.sha256(f"{rule.salt}/{place}".encode()).digest()[:8], "big") / 2**64
    total = 0.0
    chosen: Split = "train"
    for split in SPLITS:
        share = (shares or rule.fractions).get(split, 0.0)
        total += share
        if share > 0:
            chosen = split
        if number < total:
            return split
    return chosen


def place_chip(rule: SplitRule, chip: GeoBox) -> Placement | None:
    """The side and cell of a chip with a CRS; None where its cells lie on different sides.

    The cell is that of its centre. A chip that touches cells of two sides belongs to neither: it would carry
    a place from one to the other.

    Raises:
        DataRefused: If its place cannot be projected, or lies beyond 86 degrees of latitude.
    """
    height, width = chip.shape
    corners = project(chip, np.array([0, width, 0, width]), np.array([0, 0, height, height]))
    # Enough points that no cell under the chip is stepped over; across the 180th meridian x starts anew.
    across, down = np.ptp((corners[0] - corners[0][0] + _HALF_WAY) % (2 * _HALF_WAY)), np.ptp(corners[1])
    steps = int(np.ceil(max(across, down) / rule.cell)) + 2
    sides: set[Split] = set()
    for count in (min(steps, 9), steps):  # what spans many cells shows two sides at once
        columns, rows = np.meshgrid(np.linspace(0, width, count), np.linspace(0, height, count))
        sides |= {side(rule, cell) for cell in _cells(rule, project(chip, columns.ravel(), rows.ravel()))}
        if len(sides) > 1:
            return None
    (centre,) = _cells(rule, project(chip, np.array([width / 2]), np.array([height / 2])))
    return Placement(sides.pop(), centre)


def project(grid: GeoBox, columns: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixel positions of a grid on the global equal-area grid, metres.

    Raises:
        DataRefused: If they cannot be projected, or lie beyond 86 degrees of latitude.
    """
    place = grid.affine
    x, y = _transformer(str(grid.crs)).transform(
        place.a * columns + place.b * rows + place.c, place.d * columns + place.e * rows + place.f
    )
    if not (np.isfinite(x).all() and (np.abs(y) <= _FARTHEST).all()):
        raise DataRefused(
            "this grid does not lie between 86 degrees south and north",
            where=" ".join(str(grid.crs).split())[:40],
            fix="Check the CRS and the transform",
        )
    return x, y


def place_scene(rule: SplitRule, scene_id: str, place: str | None, source_split: str | None) -> Placement:
    """The side and cell of a scene without CRS: by the source's list, else by its place.

    Raises:
        DataRefused: If it has neither, or the use case does not know the list.
    """
    if source_split is not None:
        chosen = rule.lists.get(source_split)
        if chosen is None:
            raise DataRefused(
                f"the use case has no list '{source_split}'", where=scene_id, fix="Add it to data.split.lists"
            )
        cell = place or scene_id
        return Placement(chosen if isinstance(chosen, str) else side(rule, scene_id, chosen), cell)
    if place is not None:
        return Placement(side(rule, place), place)
    raise DataRefused(
        "no CRS, no place and no list: nobody can tell which side it is on",
        where=scene_id,
        fix="Give the raster a CRS, the item a terraloop:place, or the folder a list such as train.csv",
    )


def _cells(rule: SplitRule, points: tuple[NDArray[Any], NDArray[Any]]) -> set[str]:
    numbers = np.unique(np.floor(np.stack(points) / rule.cell).astype(np.int64), axis=1)
    return {f"{rule.cell:g}m/{x}/{y}" for x, y in numbers.T.tolist()}


@lru_cache(maxsize=64)
def _transformer(crs: str) -> Transformer:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        return Transformer.from_crs(crs, EQUAL_AREA, always_xy=True)
    except ProjError as error:
        raise DataRefused(
            "this CRS has no place on Earth",
            where=" ".join(crs.split())[:40],
            fix="Give it a geographic or projected one",
        ) from error
