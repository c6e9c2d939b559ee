"""Where a raster's pixels lie on the ellipsoid, and how large they are there (WGS 84)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused

if TYPE_CHECKING:
    from affine import Affine

    from eo_serving.raster_bodies import OpenRaster

BLOCK: Final = 64
"""Side of the blocks, pixels, over which a pixel's area counts as constant; less where that is too much of a globe."""
_WIDEST: Final = (20.0, 2e6)
"""Degrees, or metres, that a block of a geographic, or projected, grid may span."""
_LONGITUDES: Final = (-360.0, 540.0)
"""What grids in degrees use: -180 to 180, 0 to 360, and what runs over an end of either."""
_EDGE: Final = 8
"""Straight parts into which a block's edge is cut: what is straight on the grid is none on the ellipsoid."""


class Ground:
    """The ground under a raster.

    Args:
        crs: Its CRS (rasterio's).
        transform: Its transform.
        shape: Height and width.

    Raises:
        DataRefused: If the CRS has no place on Earth.
    """

    def __init__(self, crs: Any, transform: Affine, shape: tuple[int, int]) -> None:
        from pyproj import CRS, Geod, Transformer
        from pyproj.exceptions import ProjError

        self._transform = transform
        self._shape = shape
        self._geod = Geod(ellps="WGS84")
        try:
            here = CRS.from_wkt(crs.to_wkt())
            self._transformer = Transformer.from_crs(here, "OGC:CRS84", always_xy=True)
        except ProjError as error:
            raise _no_place() from error
        if here.is_geocentric:
            raise _no_place()
        self._geographic = bool(here.is_geographic)
        self._block = BLOCK
        unit = 1.0 if self._geographic else here.axis_info[0].unit_conversion_factor
        side = max(map(abs, (transform.a, transform.b, transform.d, transform.e))) * unit
        while self._block > 1 and self._block * side > _WIDEST[not self._geographic]:
            self._block //= 2

    @classmethod
    def of(cls, image: OpenRaster) -> Ground | None:
        """The ground under a raster; None where it has no CRS or no transform."""
        if image.crs is None or image.transform is None:
            return None
        return cls(image.crs, image.transform, image.shape)

    def lonlat(self, columns: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitudes (-180 to 180) and latitudes of points given by column and row, both from the upper left corner.

        Raises:
            DataRefused: If a point has no place on Earth.
        """
        longitude, latitude = self._lonlat(columns, rows)
        # Both ends of the range stay: at the antimeridian neither is better than the other.
        return np.where(np.abs(longitude) > 180, (longitude + 180) % 360 - 180, longitude), latitude

    def path(self, columns: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitudes and latitudes of points along a line, no jump between neighbours: they may pass 180.

        Raises:
            DataRefused: If a point has no place on Earth.
        """
        longitude, latitude = self._lonlat(columns, rows)
        return (longitude if self._geographic else np.unwrap(longitude, period=360)), latitude

    def _lonlat(self, columns: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from pyproj.exceptions import ProjError

        a, b, c, d, e, f = self._transform[:6]
        columns, rows = np.asarray(columns, np.float64), np.asarray(rows, np.float64)
        try:
            found = self._transformer.transform(a * columns + b * rows + c, d * columns + e * rows + f, errcheck=True)
        except ProjError as error:
            raise _no_place() from error
        longitude, latitude = (np.asarray(part, dtype=np.float64) for part in found)
        if not (np.isfinite(longitude).all() and np.isfinite(latitude).all() and np.abs(latitude).max() <= 90):
            raise _no_place()
        if self._geographic and not (_LONGITUDES[0] <= longitude.min() and longitude.max() <= _LONGITUDES[1]):
            raise _no_place()
        return longitude, latitude

    @cached_property
    def block_areas(self) -> NDArray[np.float64]:
        """Area of a pixel in m2, for each block of pixels: its outline's, over its pixels.

        Raises:
            DataRefused: If a pixel has none.
        """
        (height, width), block = self._shape, self._block
        tops, lefts = range(0, height, block), np.arange(0, width, block)
        columns = np.minimum(block, width - lefts)
        steps = np.linspace(0, 1, _EDGE, endpoint=False)
        across = np.concatenate([steps, np.ones(_EDGE), 1 - steps, np.zeros(_EDGE)])
        down = np.concatenate([np.zeros(_EDGE), steps, np.ones(_EDGE), 1 - steps])
        areas = np.empty((len(tops), len(lefts)))
        for i, top in enumerate(tops):
            rows = min(block, height - top)
            x = lefts[:, None] + columns[:, None] * across
            longitude, latitude = self.lonlat(x, np.broadcast_to(top + rows * down, x.shape))
            for j in range(len(lefts)):
                area, _ = self._geod.polygon_area_perimeter(longitude[j], latitude[j])
                areas[i, j] = abs(area) / (rows * columns[j])
        if not (areas > 0).all():
            raise _no_place()
        return areas

    @cached_property
    def widest_pixel(self) -> float:
        """About the side of the largest pixel, m."""
        return float(np.sqrt(self.block_areas.max()))

    def pixel_areas(self, top: int, rows: int) -> NDArray[np.float64]:
        """Area of each pixel of some rows in m2, `[rows, width]`."""
        by_row = self.block_areas[np.arange(top, top + rows) // self._block]
        return np.repeat(by_row, self._block, axis=1)[:, : self._shape[1]]


def _no_place() -> DataRefused:
    return DataRefused(
        "this raster has no place on Earth: its CRS or its transform leads nowhere",
        where="body",
        fix="Correct them, for example with `gdal_translate -a_srs ... -a_ullr ...`",
    )
