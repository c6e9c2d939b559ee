"""The split (design 4.2): which side a place is on, a pure function of the place and the use case's salt.

What else is present never enters, so a place keeps its side as data grows. Around each side lies a buffer: a chip
that comes within half a chip of another side's cell belongs to none, so that two chips of different sides lie at
least one chip apart, whichever scenes, dates and grids they come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox

from eo_data.cells import cell_at, cells_under, project
from eo_data.errors import DataRefused
from eo_data.usecase import SPLITS, Split, SplitRule


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


def place_chip(rule: SplitRule, chip: GeoBox, margin: int | None = None) -> Placement | None:
    """The side and cell of a chip with a CRS; None where another side's cell is within half a chip of it.

    The cell is that of its centre. The sides are those of every cell that its footprint touches, widened in its
    own grid by half its height and width. Footprints of two sides, so widened, share no point: hence the chips
    are half of the one and half of the other apart. A pixel more than the half makes up for the straight pieces
    by which the outline is followed on another grid.

    Args:
        rule: The use case's.
        chip: The chip's grid.
        margin: Half a whole chip, pixels, where this one is cut off by the scene's edge.

    Raises:
        DataRefused: If its centre cannot be projected, or is no place on Earth.
    """
    height, width = chip.shape
    longitude, latitude = project(chip, np.array([width / 2]), np.array([height / 2]))
    cell = cell_at(float(longitude[0]), float(latitude[0]), rule.cell)
    split = side(rule, cell)
    if rule.fractions.get(split, 0.0) == 1.0:  # there is no other side
        return Placement(split, cell)
    across, down = (-(-length // 2) if margin is None else margin for length in (width, height))
    touched = cells_under(chip.pad(across + 1, down + 1), rule.cell)
    if touched is None or any(side(rule, other) != split for other in touched):
        return None
    return Placement(split, cell)


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
        return Placement(chosen if isinstance(chosen, str) else side(rule, cell, chosen), cell)
    if place is not None:
        return Placement(side(rule, place), place)
    raise DataRefused(
        "no CRS, no place and no list: nobody can tell which side it is on",
        where=scene_id,
        fix="Give the raster a CRS, the item a terraloop:place, or the folder a list such as train.csv",
    )
