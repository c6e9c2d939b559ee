"""An area in longitude and latitude as a window of a pixel grid."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from eo_data.errors import DataRefused, UsageError

Area = tuple[float, float, float, float]
"""West, south, east, north in degrees (EPSG:4326). West above east: across the 180th meridian, as in GeoJSON."""

_NODES = 33
_WHOLE = 1e-6
"""Nodes per side at which an area is projected, and what part of a pixel is rounding."""


def require_area(area: Area, where: str) -> Area:
    """The area as it is.

    Raises:
        UsageError: If it has no extent, or lies outside the Earth.
    """
    west, south, east, north = area
    in_range = all(-180 <= x <= 180 for x in (west, east)) and all(-90 <= y <= 90 for y in (south, north))
    if not in_range or south >= north or west == east:
        raise UsageError(
            f"{west:g} {south:g} {east:g} {north:g} is no area",
            where=where,
            fix="Give west, south, east, north in degrees, such as 5.9 45.8 6.2 46.1",
        )
    return area


def cut_to_area(grid: GeoBox, area: Area, where: str) -> GeoBox:
    """The whole pixels of a grid that an area touches.

    The area is first cut to the longitudes and latitudes of the grid: a projection means nothing far from its
    place.

    Args:
        grid: The grid of the whole scene, north up, with a CRS.
        area: The area.
        where: What the scene is called in messages.

    Raises:
        DataRefused: If the area does not touch the grid.
    """
    to_degrees = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)
    boxes = _common_boxes(grid, area, to_degrees)
    rows, columns = grid.shape
    left, top, right, bottom = columns, rows, 0, 0
    for box in boxes:
        x, y = _mesh(box[0], box[2], box[1], box[3])
        x, y = to_degrees.transform(x, y, direction="INVERSE")
        column, row = ~grid.affine @ (np.asarray(x), np.asarray(y))
        seen = np.isfinite(column) & np.isfinite(row)
        if not seen.any():
            continue
        left = min(left, max(0, math.floor(column[seen].min() + _WHOLE)))
        top = min(top, max(0, math.floor(row[seen].min() + _WHOLE)))
        right = max(right, min(columns, math.ceil(column[seen].max() - _WHOLE)))
        bottom = max(bottom, min(rows, math.ceil(row[seen].max() - _WHOLE)))
    if left >= right or top >= bottom:
        raise DataRefused("the scene does not reach into the area", where=where, fix="Check --bbox")
    return grid[top:bottom, left:right]


def _common_boxes(grid: GeoBox, area: Area, to_degrees: Transformer) -> list[Area]:
    """What an area shares with a grid's longitudes and latitudes; longitudes may pass 180."""
    box = grid.extent.boundingbox
    longitude, latitude = to_degrees.transform(*_mesh(box.left, box.right, box.bottom, box.top))
    centre = float(to_degrees.transform((box.left + box.right) / 2, (box.bottom + box.top) / 2)[0])
    away = (longitude - centre + 180) % 360 - 180  # from the centre: no jump at the 180th meridian
    finite = np.isfinite(away) & np.isfinite(latitude)
    if not finite.any():
        return []
    first, last = float(away[finite].min()), float(away[finite].max())
    low, high = float(latitude[finite].min()), float(latitude[finite].max())
    if last - first > 300:  # around a pole
        low, high = (low, 90.0) if high > 0 else (-90.0, high)
    margin = 0.05 * max(last - first, high - low)  # the nodes may miss the outermost point
    first, last, low, high = first - margin, last + margin, max(-90.0, low - margin), min(90.0, high + margin)
    west, south, east, north = area
    start = (west - centre + 180) % 360 - 180
    width = (east - west) % 360 or 360.0
    found = []
    for turn in (-360.0, 0.0, 360.0):
        cut = (max(first, start + turn), max(low, south), min(last, start + turn + width), min(high, north))
        if cut[0] < cut[2] and cut[1] < cut[3]:
            found.append((cut[0] + centre, cut[1], cut[2] + centre, cut[3]))
    return found


def _mesh(left: float, right: float, bottom: float, top: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.meshgrid(np.linspace(left, right, _NODES), np.linspace(bottom, top, _NODES))
    return x.ravel(), y.ravel()
