"""A map of label values in any CRS (a land-cover map) on the grid of a scene, by the nearest pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.label_store import LabelType, label_type, write_label
from eo_data.overlap import lonlat_box, places, transformer
from eo_data.rasters import geobox_of, mask_reader
from eo_data.usecase import IGNORE, DataSection

TILE: Final = 512
"""Pixels a side of the part of a scene that is looked up at once."""

MOST_PIXELS: Final = 1 << 24
"""Pixels of the map that are read at once; a part of a scene that needs more is halved."""

NODE_STEP: Final = 16
TOLERANCE: Final = 0.001
"""Places are projected at every 16th pixel and interpolated between, where that is right to less than a thousandth of
a pixel of the map."""

Positions = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]


class LandCover:
    """An open map of one band.

    Attributes:
        grid: Its grid.
        box: Where it lies, longitude and latitude.

    Args:
        dataset: The map, open in rasterio.
        data: Whose classes: a nodata value that stands for one of them is that class.
        where: What it is called in messages.
        remote: Whether it is read over a network, where a read that fails may succeed later.

    Raises:
        DataRefused: If it has no CRS or transform, several bands, or complex values.
    """

    def __init__(self, dataset: Any, data: DataSection, where: str, remote: bool) -> None:
        self.where, self._dataset, self._remote = where, dataset, remote
        grid = geobox_of(dataset)
        if grid is None or dataset.transform == Affine.identity() or not dataset.transform.determinant:
            raise DataRefused(
                "a map without CRS and transform lies nowhere",
                where=where,
                fix="Georeference it; or, where it lies on a scene's grid, put it into a folder as ID.tif",
            )
        if dataset.count != 1:
            raise DataRefused(
                f"a label has one band, this one has {dataset.count}", where=where, fix="Keep the classes"
            )
        if dataset.dtypes[0].startswith("complex"):
            raise DataRefused("complex values are no classes", where=where, fix="Give whole numbers")
        self.grid: GeoBox = grid
        self.box = lonlat_box(grid)
        self._inverse = ~dataset.transform
        self._mask = mask_reader(dataset, (1,))
        self._taken = [value for definition in data.classes for value in definition.label_values]
        self._ignored = data.ignore_label_values
        self._nodata = None if dataset.nodata in self._taken else dataset.nodata
        kind = np.dtype(dataset.dtypes[0])
        limits = np.iinfo(kind if kind.kind in "iu" and kind.itemsize <= 4 else np.int32)
        self._low, self._high = int(limits.min), int(limits.max)
        self._west = None
        if dataset.crs.is_geographic:  # longitudes repeat: a map may begin anywhere
            self._west = min((dataset.transform @ corner)[0] for corner in self._corners())

    def _corners(self) -> list[tuple[float, float]]:
        return [(x, y) for x in (0, self._dataset.width) for y in (0, self._dataset.height)]

    def draw(self, image: Any, path: Path, name: str) -> bool:
        """Write the map's values on the grid of an image, open in rasterio; whether it has any there.

        What the map does not say is 255, declared as nodata; where 255 is one of the map's own values, another number.

        Raises:
            DataRefused: If values are no whole numbers of 32 bits, or the map cannot be decoded.
            TemporaryFailure: If a map on a network does not answer.
        """
        grid = geobox_of(image)
        if grid is None:
            return False
        for taken in (self._taken, [*self._taken, IGNORE]):
            kind = label_type(self._low, self._high, taken)
            drawn = mixed = False

            def rows(top: int, bottom: int, grid: GeoBox = grid, kind: LabelType = kind) -> NDArray[Any]:
                nonlocal drawn, mixed
                values, there = self.under(grid, top, bottom)
                drawn |= bool(there.any())
                mixed |= kind.absent not in self._ignored and bool((values[there] == kind.absent).any())
                return np.where(there, values, kind.absent).astype(kind.dtype)

            write_label(path, image, kind, rows)
            if not mixed:
                break
        return drawn

    def under(self, grid: GeoBox, top: int, bottom: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The map's values at the centres of rows of a grid, and where it has one, `[bottom - top, width]`.

        Raises:
            DataRefused: If values are no whole numbers of 32 bits, or the map cannot be decoded.
            TemporaryFailure: If a map on a network does not answer.
        """
        width = grid.shape[1]
        values = np.zeros((bottom - top, width), np.int64)
        there = np.zeros((bottom - top, width), np.bool_)
        for left in range(0, width, TILE):
            part = grid[top:bottom, left : min(left + TILE, width)]
            columns, rows = self._positions(part)
            with np.errstate(invalid="ignore"):
                inside = (columns >= 0) & (columns < self._dataset.width) & (rows >= 0) & (rows < self._dataset.height)
            at = np.s_[:, left : left + TILE]
            found, held = values[at], there[at]
            self._look_up(np.where(inside, columns, -1).astype(np.int64), np.where(inside, rows, -1).astype(np.int64),
                          inside, found, held)  # fmt: skip
        return values, there

    def _look_up(
        self,
        columns: NDArray[np.int64],
        rows: NDArray[np.int64],
        inside: NDArray[np.bool_],
        values: NDArray[np.int64],
        there: NDArray[np.bool_],
    ) -> None:
        """Fill `values` and `there` from the map's pixels; in halves where they lie too far apart to read at once."""
        if not inside.any():
            return
        left, top = int(columns[inside].min()), int(rows[inside].min())
        width, height = int(columns[inside].max()) - left + 1, int(rows[inside].max()) - top + 1
        if width * height > MOST_PIXELS and inside.size > 1:
            axis = int(inside.shape[1] >= inside.shape[0])
            middle = inside.shape[axis] // 2
            for half in (slice(None, middle), slice(middle, None)):
                part = (slice(None), half) if axis else (half, slice(None))
                self._look_up(columns[part], rows[part], inside[part], values[part], there[part])
            return
        pixels, known = self._read(Window(left, top, width, height))
        at = rows[inside] - top, columns[inside] - left
        values[inside], there[inside] = self._whole(pixels[at], known[at])

    def _read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        try:
            pixels = self._dataset.read(1, window=window)
            known = np.ones(pixels.shape, np.bool_) if self._mask is None else self._mask(window=window) != 0
        except RasterioError as error:
            if self._remote:
                raise TemporaryFailure(
                    f"the map cannot be read ({error})", where=self.where, fix="Check the server, then run it again"
                ) from error
            raise DataRefused(
                "the map cannot be decoded: the file is truncated or damaged", where=self.where, fix="Fetch it again"
            ) from error
        return pixels, known

    def _whole(self, pixels: NDArray[Any], known: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Values as whole numbers; where the map has none, 0 and False."""
        if self._nodata is not None:
            with np.errstate(over="ignore"):  # a nodata value beyond the map's own type is nowhere in it
                known = known & (pixels != self._nodata)
        if pixels.dtype.kind == "f":
            known = known & np.isfinite(pixels)
        pixels = np.where(known, pixels, 0)
        odd = (pixels < self._low) | (pixels > self._high) | (pixels != np.floor(pixels))
        if odd.any():
            strange = ", ".join(f"{value:.9g}" for value in np.unique(pixels[odd])[:5])
            raise DataRefused(
                f"values {strange} are no class values: those are whole numbers of at most 32 bits",
                where=self.where,
                fix="Give a map of classes, not of fractions or probabilities",
            )
        return pixels.astype(np.int64), known

    def _positions(self, part: GeoBox) -> Positions:
        """The column and row of the map that the centre of each pixel of a grid falls on; no number where on none.

        Projecting is slow: it is done at nodes and interpolated between, where that is right to `TOLERANCE`, and again
        for pixels so near an edge between two of the map's that the interpolation might choose the other.
        """
        height, width = part.shape
        columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
        everywhere = np.meshgrid(columns, rows)
        if min(height, width) <= 2 * NODE_STEP:
            return self._exact(part, *everywhere)
        across, down = _nodes(width), _nodes(height)
        nodes = self._exact(part, *np.meshgrid(across, down))
        between = (across[:-1] + across[1:]) / 2, (down[:-1] + down[1:]) / 2  # where it errs most
        wanted = self._exact(part, *np.meshgrid(*between))
        with np.errstate(invalid="ignore"):
            errors = [np.abs(_between(n, across, down, *between) - w).max() for n, w in zip(nodes, wanted, strict=True)]
        if not all(error <= TOLERANCE / 2 for error in errors):  # also where a place is no number
            return self._exact(part, *everywhere)
        column, row = (_between(n, across, down, columns, rows) for n in nodes)
        unsure = (np.abs(column - np.rint(column)) <= TOLERANCE) | (np.abs(row - np.rint(row)) <= TOLERANCE)
        column[unsure], row[unsure] = self._exact(part, everywhere[0][unsure], everywhere[1][unsure])
        return column, row

    def _exact(self, part: GeoBox, columns: NDArray[Any], rows: NDArray[Any]) -> Positions:
        x, y = transformer(str(part.crs), str(self.grid.crs)).transform(*places(part.affine, columns, rows))
        with np.errstate(invalid="ignore"):  # what cannot be projected is infinite
            if self._west is not None:
                x = self._west + (x - self._west) % 360
            return places(self._inverse, x, y)


def _nodes(size: int) -> NDArray[np.floating[Any]]:
    return np.append(np.arange(0, size - 1, NODE_STEP), size - 1) + 0.5


def _between(
    nodes: NDArray[np.floating[Any]],
    across: NDArray[np.floating[Any]],
    down: NDArray[np.floating[Any]],
    columns: NDArray[np.floating[Any]],
    rows: NDArray[np.floating[Any]],
) -> NDArray[np.floating[Any]]:
    """Values at nodes, bilinear at columns and rows between them."""

    def weights(
        at: NDArray[np.floating[Any]], places: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
        first = np.clip(np.searchsorted(at, places, side="right") - 1, 0, len(at) - 2)
        return first, (places - at[first]) / (at[first + 1] - at[first])

    first, share = weights(across, columns)
    wide = nodes[:, first] * (1 - share) + nodes[:, first + 1] * share
    first, share = weights(down, rows)
    result: NDArray[np.floating[Any]] = wide[first] * (1 - share)[:, None] + wide[first + 1] * share[:, None]
    return result
