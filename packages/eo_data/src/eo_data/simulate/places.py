"""Where simulated scenes lie: a world-wide lattice of slots on land, one scene in each, never overlapping.

A scene's centre is put on the centre of a cell of the equal-area grids that the split is made of: a chip within
half a chip of another side is left out of datasets, and so a small scene lies in one cell with room around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.transform import Affine

from eo_data.cells import centre_of_cell
from eo_data.errors import UsageError

PIXEL: Final = 10.0
"""Pixel size, metres."""

MAX_SIZE: Final = 10980
"""Largest scene, pixels: a Sentinel-2 tile. A slot of the lattice holds no more."""

CELL: Final = 5120.0
"""Side of a cell of the equal-area grid, metres; the default of a use case's `data.split.cell`."""

_STEP: Final = 1.2  # degrees of latitude between slots: 133 km
_SLOT_METRES: Final = 132_000.0
_TURN: Final = 1.06  # a UTM grid is turned against north by up to 3 degrees
_SNAP_METRES: Final = 11_000.0  # the way to the next cell's centre, twice, at the highest latitude

# (west, south, east, north) of rectangles well inside the continents
_LAND: Final = (
    (-122, 40, -76, 62), (-112, 30, -83, 40), (-102, 20, -99, 30), (-65, -30, -45, -3), (-75, -12, -62, 4),
    (-69, -48, -64, -30), (-7, 38, -2, 42.5), (0, 44, 20, 51), (20, 45, 40, 64), (13, 59, 17, 66),
    (40, 50, 130, 66), (46, 36, 75, 50), (75, 30, 115, 50), (74, 15, 80, 30), (98, 16, 106, 30),
    (-5, 14, 32, 30), (-7, 8, 40, 14), (12, -15, 36, 8), (16, -30, 30, -15), (43, 18, 54, 30),
    (115, -31, 148, -20), (126, -20, 145, -16), (141, -36, 150, -31), (45, -22, 47, -18), (112, -1, 116, 3),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A scene's place.

    Attributes:
        longitude: Of the centre, degrees east.
        latitude: Of the centre, degrees north.
        geobox: The scene's grid: UTM, 10 m, edges on multiples of 10 m.
    """

    longitude: float
    latitude: float
    geobox: GeoBox


def place(number: int, size: int, seed: int) -> Place:
    """The place of scene `number` of a set; it does not depend on how many scenes the set has.

    Args:
        number: The scene's number, from 0.
        size: Height and width, pixels, at most 10980.
        seed: The set's seed.

    Raises:
        UsageError: If there is no room for a scene of that number and size.
    """
    slots = _slots(seed)
    pitch = size * PIXEL * _TURN + _SNAP_METRES
    side = int(_SLOT_METRES // pitch)
    if side < 1 or number >= len(slots) * side**2:
        raise UsageError(
            f"no room for a scene of {size} pixels with number {number}",
            where="simulate",
            fix=f"At most {MAX_SIZE} pixels, and {len(slots) * side**2} scenes of this size",
        )
    longitude, latitude = slots[number % len(slots)]
    turn = np.random.default_rng([seed, number % len(slots), 1]).integers(side**2)
    column, row = divmod((number // len(slots) + int(turn)) % side**2, side)
    latitude += (row - (side - 1) / 2) * pitch / 111_200.0
    longitude += (column - (side - 1) / 2) * pitch / (111_200.0 * math.cos(math.radians(latitude)))
    return _snapped(longitude, latitude, size)


def _snapped(longitude: float, latitude: float, size: int) -> Place:
    """The scene around the centre of the cell that a point lies in."""
    longitude, latitude = centre_of_cell(longitude, latitude, CELL)
    zone = int((longitude + 180) // 6) + 1
    crs = f"EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}"
    east, north = _to_utm(crs).transform(longitude, latitude)
    left = (round(east / PIXEL) - size // 2) * PIXEL
    top = (round(north / PIXEL) + size // 2) * PIXEL
    return Place(longitude, latitude, GeoBox((size, size), Affine(PIXEL, 0, left, 0, -PIXEL, top), crs))


@cache
def _slots(seed: int) -> tuple[tuple[float, float], ...]:
    """Longitude and latitude of every slot on land, in the seed's order."""
    slots = []
    for row in range(int(-54 / _STEP), int(66 / _STEP)):
        latitude = row * _STEP
        step = _STEP / math.cos(math.radians(abs(latitude) + _STEP / 2))
        for column in range(int(360 / step)):
            longitude = -180 + (column + 0.5) * step
            if any(w <= longitude <= e and s <= latitude <= n for w, s, e, n in _LAND):
                slots.append((longitude, latitude))
    order = np.random.default_rng([seed, 0]).permutation(len(slots))
    return tuple(slots[index] for index in order)


@cache
def _to_utm(crs: str) -> Transformer:
    """From longitude and latitude."""
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)
