"""Cells of equal area that cover the Earth: which cell a point lies in, and which cells an area touches.

Between 60 degrees south and north they are those of EASE-Grid 2.0 Global (EPSG:6933); beyond, where its cells
would be slivers, those of EASE-Grid 2.0 North and South (EPSG:6931, EPSG:6932), poles included. Which grid counts
is a function of the point's latitude alone (Brodzik et al. 2012, doi:10.3390/ijgi1010032).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from eo_data.errors import DataRefused

if TYPE_CHECKING:
    from pyproj import Transformer

Floats = NDArray[np.float64]

DEGREES: Final = "EPSG:4326"
GLOBAL: Final = "EPSG:6933"
POLAR: Final = {"north": "EPSG:6931", "south": "EPSG:6932"}
POLAR_FROM: Final = 60.0
"""Degrees of latitude beyond which the polar grids count."""

_HALF_WAY: Final = 17_367_530.45
"""EPSG:6933's x of 180 degrees east, metres."""
_POLAR_Y: Final = 6_351_420.0
"""EPSG:6933's y of 60 degrees north, metres."""
_PIECES: Final = 32
"""Straight pieces that a side of an outline is followed by."""


def project(grid: GeoBox, columns: NDArray[Any], rows: NDArray[Any]) -> tuple[Floats, Floats]:
    """Pixel positions of a grid as longitude (-180 to 180) and latitude, degrees (EPSG:4326).

    Raises:
        DataRefused: If they cannot be projected, or are no place on Earth.
    """
    longitude, latitude = _to_degrees(grid, columns, rows)
    if not (np.isfinite(longitude).all() and (np.abs(latitude) <= 90 + 1e-6).all()):
        raise DataRefused(
            "this grid does not lie on Earth",
            where=" ".join(str(grid.crs).split())[:40],
            fix="Check the CRS and the transform",
        )
    return _wrapped(longitude), np.clip(latitude, -90, 90)


def cell_at(longitude: float, latitude: float, side: float) -> str:
    """The name of the cell, `side` metres wide, that a point lies in."""
    zone = _zone(latitude)
    x, y = _transformer(DEGREES, POLAR.get(zone, GLOBAL)).transform(longitude, latitude)
    return _name(zone, side, int(x // side), int(y // side))


def centre_of_cell(longitude: float, latitude: float, side: float) -> tuple[float, float]:
    """Longitude and latitude of the centre of the cell that a point lies in."""
    crs = POLAR.get(_zone(latitude), GLOBAL)
    x, y = _transformer(DEGREES, crs).transform(longitude, latitude)
    centre = _transformer(crs, DEGREES).transform((x // side + 0.5) * side, (y // side + 0.5) * side)
    return float(centre[0]), float(centre[1])


def cells_under(area: GeoBox, side: float) -> Iterator[str] | None:
    """The names of all cells that an area touches; near 60 degrees of latitude those of both grids.

    The area may hold a pole or lie across the 180th meridian. None where a part of its outline has no place on
    Earth: a grid may end at the edge of its CRS's domain.
    """
    longitude, latitude = _outline(area)
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        return None
    return _cells(longitude, latitude, side)


def _cells(longitude: Floats, latitude: Floats, side: float) -> Iterator[str]:
    over = bool((np.abs(latitude) > 90).any())  # in degrees an outline can go on beyond the pole
    turn = np.unwrap(np.append(longitude, longitude[0]), period=360)
    low, high = float(latitude.min()), float(latitude.max())
    round_pole = over or abs(turn[-1] - turn[0]) > 180
    if round_pole:
        low, high = (low, 90.0) if latitude.mean() > 0 else (-90.0, high)
    if low <= POLAR_FROM and high >= -POLAR_FROM:
        yield from _global_cells(longitude, latitude, side, round_pole=round_pole)
    for zone, beyond in (("north", high > POLAR_FROM), ("south", low < -POLAR_FROM)):
        if beyond:
            yield from _polar_cells(longitude, latitude, side, zone, over=over)


def _outline(area: GeoBox) -> tuple[Floats, Floats]:
    """Points along an area's border, in order, degrees; latitudes beyond 90 are over the pole."""
    height, width = area.shape
    along = np.arange(_PIECES) / _PIECES
    columns = np.concatenate([along, np.ones(_PIECES), 1 - along, np.zeros(_PIECES)]) * width
    rows = np.concatenate([np.zeros(_PIECES), along, np.ones(_PIECES), 1 - along]) * height
    return _to_degrees(area, columns, rows)


def _global_cells(longitude: Floats, latitude: Floats, side: float, *, round_pole: bool) -> Iterator[str]:
    x, y = _transformer(DEGREES, GLOBAL).transform(_wrapped(longitude), np.clip(latitude, -90, 90))
    x = np.unwrap(x, period=2 * _HALF_WAY)
    edge = int(_POLAR_Y // side)
    for row, low, high in _rows(x, y, side):
        if not -edge - 1 <= row <= edge:
            continue
        spans = [(low, high)]
        if round_pole or high - low >= 2 * _HALF_WAY:
            spans = [(-_HALF_WAY, _HALF_WAY)]
        else:
            shift = 2 * _HALF_WAY * np.floor((low + _HALF_WAY) / (2 * _HALF_WAY))
            low, high = low - shift, high - shift
            spans = [(low, min(high, _HALF_WAY))]
            if high > _HALF_WAY:
                spans.append((-_HALF_WAY, high - 2 * _HALF_WAY))
        for start, stop in spans:
            for column in range(int(start // side), int(stop // side) + 1):
                yield _name("global", side, column, row)


def _polar_cells(longitude: Floats, latitude: Floats, side: float, zone: str, *, over: bool) -> Iterator[str]:
    # The grid of the other hemisphere ends at the other pole; nothing beyond the equator is asked for.
    sign = 1 if zone == "north" else -1
    latitude = sign * np.clip(sign * latitude, 0, 90)
    x, y = _transformer(DEGREES, POLAR[zone]).transform(_wrapped(longitude), latitude)
    if over:  # the whole cap: on the far side of the pole the same ground comes up again
        reach = float(np.hypot(x, y).max())
        x, y = np.array([-reach, reach, reach, -reach]), np.array([-reach, -reach, reach, reach])
    for row, low, high in _rows(x, y, side):
        for column in range(int(low // side), int(high // side) + 1):
            yield _name(zone, side, column, row)


def _rows(x: Floats, y: Floats, side: float) -> Iterator[tuple[int, float, float]]:
    """For each row of cells that a closed outline touches: the row, and the least and greatest x in it."""
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    rise = np.where(next_y == y, 1.0, next_y - y)
    for row in range(int(y.min() // side), int(y.max() // side) + 1):
        bottom, top = row * side, (row + 1) * side
        inside = (np.maximum(y, next_y) >= bottom) & (np.minimum(y, next_y) <= top)
        ends = []
        for end, otherwise in ((y, x), (next_y, next_x)):
            at = np.clip(end, bottom, top)
            ends.append(np.where(next_y == y, otherwise, x + (at - y) / rise * (next_x - x))[inside])
        found = np.concatenate(ends)
        yield row, float(found.min()), float(found.max())


def _to_degrees(grid: GeoBox, columns: NDArray[Any], rows: NDArray[Any]) -> tuple[Floats, Floats]:
    place = grid.affine
    x = place.a * columns + place.b * rows + place.c
    y = place.d * columns + place.e * rows + place.f
    longitude, latitude = _transformer(str(grid.crs), DEGREES).transform(x, y)
    return np.asarray(longitude, dtype=float), np.asarray(latitude, dtype=float)


def _wrapped(longitude: Floats) -> Floats:
    return (longitude + 180) % 360 - 180


def _zone(latitude: float) -> str:
    return "north" if latitude > POLAR_FROM else "south" if latitude < -POLAR_FROM else "global"


def _name(zone: str, side: float, column: int, row: int) -> str:
    return f"{side:g}m/{column}/{row}" if zone == "global" else f"{side:g}m-{zone}/{column}/{row}"


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise DataRefused(
            "this CRS has no place on Earth",
            where=" ".join(source.split())[:40],
            fix="Give it a geographic or projected one",
        ) from error
