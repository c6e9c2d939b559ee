"""Which grids may lie over each other: their boxes in longitude and latitude, across the antimeridian and at poles."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from eo_data.errors import DataRefused
from eo_data.scene import Scene

if TYPE_CHECKING:
    from pyproj import Transformer

LONLAT: Final = "EPSG:4326"

_NODES: Final = 33
"""Points a side that a grid is projected at to find its box."""

_NEAR_POLE: Final = 85.0
"""A grid that reaches so far may hold the pole; then longitudes say nothing."""


class Box(NamedTuple):
    """A box in longitude and latitude, degrees; `east` is beyond 180 where it crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float

    def overlaps(self, other: Box) -> bool:
        """Whether two boxes share a place on Earth."""
        if self.south > other.north or other.south > self.north:
            return False
        # Longitudes repeat: one box begins within the other, counted eastwards.
        return (other.west - self.west) % 360 <= self.east - self.west or (
            self.west - other.west
        ) % 360 <= other.east - other.west


def scene_grid(scene: Scene) -> GeoBox | None:
    """A scene's grid by its item, without opening the raster; None without a CRS."""
    said = scene.properties
    crs = said.get("proj:code") or said.get("proj:wkt2")
    if crs is None or "proj:transform" not in said:
        return None
    height, width = said["proj:shape"]
    return GeoBox((height, width), Affine(*said["proj:transform"][:6]), crs)


def lonlat_box(grid: GeoBox, crs: str = LONLAT) -> Box:
    """A box in longitude and latitude around a grid, a little too large rather than too small.

    Args:
        grid: The grid.
        crs: The geographic CRS whose longitudes and latitudes they are.

    Raises:
        DataRefused: If the grid's CRS has no place on Earth.
    """
    x, y = project_nodes(grid, crs)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Box(-180.0, -90.0, 180.0, 90.0)
    high = float(np.ptp(y)) / _NODES
    south, north = float(y.min()) - high, float(y.max()) + high
    if max(-south, north) > _NEAR_POLE:
        return Box(-180.0, south if south > -_NEAR_POLE else -90.0, 180.0, north if north < _NEAR_POLE else 90.0)
    x = np.unwrap(np.unwrap(x, period=360, axis=1), period=360, axis=0)
    wide = float(np.ptp(x)) / _NODES
    return Box(float(x.min()) - wide, south, float(x.max()) + wide, north)


def project_nodes(grid: GeoBox, crs: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The places of 33 x 33 points spread over a grid, edges included, in another CRS; infinite where it has none."""
    height, width = grid.shape
    columns, rows = np.meshgrid(np.linspace(0, width, _NODES), np.linspace(0, height, _NODES))
    return transformer(str(grid.crs), crs).transform(*places(grid.affine, columns, rows))


def places(transform: Affine, columns: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where a transform takes columns and rows."""
    x = transform.a * columns + transform.b * rows + transform.c
    return x, transform.d * columns + transform.e * rows + transform.f


@lru_cache(maxsize=64)
def transformer(source: str, target: str) -> Transformer:
    """What takes x and y (longitude and latitude, in this order) from one CRS to another.

    Raises:
        DataRefused: If there is no way between the two.
    """
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise DataRefused(
            "this CRS has no place on Earth", where=" ".join(source.split())[:40], fix="Georeference it anew"
        ) from error
