"""The split (design 4.2): which side a place is on, a pure function of the place and the use case's salt.

What else is present never enters, so a place keeps its side as data grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
from odc.geo.geobox import GeoBox

from eo_data.errors import DataRefused
from eo_data.usecase import SPLITS, Split, SplitRule

if TYPE_CHECKING:
    from pyproj import Transformer

EQUAL_AREA: Final = "EPSG:6933"
"""NSIDC EASE-Grid 2.0 Global: cells of one size everywhere, and one grid for every UTM zone."""


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
        DataRefused: If its place cannot be projected (beyond 86 degrees of latitude).
    """
    height, width = chip.shape
    transformer = _transformer(str(chip.crs))
    corners = np.array([chip.affine @ (x, y) for x in (0, width) for y in (0, height)])
    x, y = transformer.transform(corners[:, 0], corners[:, 1])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataRefused("the chip cannot be placed on the global grid", where=str(chip.crs), fix="Check the CRS")
    # Enough points that no cell under the chip is stepped over.
    steps = int(np.ceil(max(np.ptp(x), np.ptp(y)) / rule.cell)) + 2
    across, down = np.meshgrid(np.linspace(0, width, steps), np.linspace(0, height, steps))
    points = [chip.affine @ point for point in zip(across.ravel(), down.ravel(), strict=True)]
    px, py = transformer.transform(*np.array(points).T)
    cells = {_cell(rule, a, b) for a, b in zip(px, py, strict=True)}
    sides = {side(rule, cell) for cell in cells}
    if len(sides) > 1:
        return None
    centre = transformer.transform(*(chip.affine @ (width / 2, height / 2)))
    return Placement(sides.pop(), _cell(rule, *centre))


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


def _cell(rule: SplitRule, x: float, y: float) -> str:
    return f"{rule.cell:g}m/{int(np.floor(x / rule.cell))}/{int(np.floor(y / rule.cell))}"


@lru_cache(maxsize=64)
def _transformer(crs: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(crs, EQUAL_AREA, always_xy=True)
