"""A file of polygons with a class each: what of them lies on a scene, in its CRS."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from eo_data.errors import DataRefused
from eo_data.label_store import write_label
from eo_data.overlap import Box, lonlat_box, project_nodes, transformer
from eo_data.rasterize import Drawing, Shapes
from eo_data.rasters import geobox_of
from eo_data.usecase import DataSection

log = logging.getLogger(__name__)

ATTRIBUTE: Final = "class"
"""The attribute that says what a polygon is: the name of a class, or one of its label values."""

_DRIVERS: Final = ("GeoJSON", "GPKG", "FlatGeobuf", "ESRI Shapefile")
_POLYGON: Final = 3
_PIECES: Final = 128
"""A straight edge of another CRS is a curve on the scene: it is bent at so many places a scene's width or height."""


class Polygons:
    """The polygons of a file, found by place.

    Args:
        path: The file, on this machine.
        data: Whose classes the attribute names.
        where: What it is called in messages.

    Attributes:
        box: Where they lie, longitude and latitude.

    Raises:
        DataRefused: If it cannot be read, has no CRS, no polygons, or no attribute `class`.
    """

    def __init__(self, path: Path, data: DataSection, where: str) -> None:
        import pyogrio
        import pyproj

        self.where, self._path, self._data = where, path, data
        self._mended: set[int] = set()
        try:
            self._layer = self._only_layer(pyogrio.list_layers(path))
            said = pyogrio.read_info(path, layer=self._layer, force_total_bounds=True)
        except (RuntimeError, ValueError) as error:  # pyogrio's own errors are of these
            raise DataRefused(
                f"the polygons cannot be read ({_line(error)})",
                where=where,
                fix="Give GeoJSON, GeoPackage, FlatGeobuf or a shapefile that `ogrinfo` can open",
            ) from error
        if said["driver"] not in _DRIVERS:
            raise DataRefused(f"this is {said['driver']}", where=where, fix=f"Give one of {', '.join(_DRIVERS)}")
        if ATTRIBUTE not in said["fields"]:
            there = ", ".join(map(str, said["fields"])) or "none at all"
            raise DataRefused(
                f"the polygons have no attribute '{ATTRIBUTE}' (there is {there})",
                where=where,
                fix=f"Add one that holds {self._told_classes()}",
            )
        if not said["crs"]:
            raise DataRefused(
                "the polygons have no CRS", where=where, fix="Save them with one (a .prj, for shapefiles)"
            )
        if said["total_bounds"] is None or not np.isfinite(said["total_bounds"]).all():
            raise DataRefused("the file holds no polygon", where=where, fix="Draw some")
        self.crs: str = said["crs"]
        self._geographic = pyproj.CRS(self.crs).is_geographic
        west, south, east, north = said["total_bounds"]
        width, height = max(east - west, 1e-9), max(north - south, 1e-9)
        self.box: Box = lonlat_box(GeoBox((1, 1), Affine(width, 0, west, 0, -height, south + height), self.crs))

    @staticmethod
    def _only_layer(layers: NDArray[Any]) -> str:
        """The layer that holds polygons.

        Raises:
            ValueError: If there is none, or several.
        """
        drawn = [str(name) for name, kind in layers if kind is not None and ("Polygon" in kind or kind == "Unknown")]
        if len(drawn) != 1:
            said = f"{len(drawn)} layers of polygons: {', '.join(drawn)}" if drawn else "no layer of polygons"
            raise ValueError(said)
        return drawn[0]

    def _told_classes(self) -> str:
        return f"a class ({', '.join(definition.name for definition in self._data.classes)}) or its label value"

    def draw(self, image: Any, path: Path, name: str) -> bool:
        """Write the polygons' classes on the grid of an image, open in rasterio; whether any pixel is inside one.

        What no polygon covers is `data.labels.outside`, else not scored; nor is what polygons of two classes claim.

        Args:
            image: The image.
            path: Where to.
            name: What the image is called in the log.

        Raises:
            DataRefused: If they cannot be read, or one has no class that the use case knows.
        """
        grid = geobox_of(image)
        drawing = None if grid is None else self.on(grid)
        if not drawing:
            return False
        write_label(path, image, drawing.kind, drawing.rows)
        if drawing.contested:
            log.warning("%s: %d pixels of %s are claimed by two classes", self.where, drawing.contested, name)
        return drawing.touched

    def on(self, grid: GeoBox) -> Drawing:
        """The polygons that may lie on a grid, in its CRS.

        Raises:
            DataRefused: If they cannot be read, or one has no class that the use case knows.
        """
        found: dict[int | None, list[Shapes]] = {}
        for box, shift in self._boxes(grid):
            shapes, classes = self._read(box, shift)
            for value in set(classes):
                chosen = shapes[[index for index, one in enumerate(classes) if one == value]]
                found.setdefault(value, []).append(_polygons(self._placed(chosen, box, shift, grid))[0])
        return Drawing(grid, {value: np.concatenate(several) for value, several in found.items()}, self._data)

    def _boxes(self, grid: GeoBox) -> list[tuple[tuple[float, float, float, float], float]]:
        """The boxes of the file's CRS to look into, and what to add to x there.

        Across the antimeridian a file may hold a place at 179 and its neighbour at -179, or at 181.
        """
        if self._geographic:
            west, south, east, north = lonlat_box(grid, self.crs)
            shifts = [-360.0, 0.0, 360.0]
        else:
            x, y = project_nodes(grid, self.crs)
            seen = np.isfinite(x) & np.isfinite(y)
            if not seen.any():
                return []
            wide, high = np.ptp(x[seen]) / 32, np.ptp(y[seen]) / 32
            west, east = float(x[seen].min() - wide), float(x[seen].max() + wide)
            south, north = float(y[seen].min() - high), float(y[seen].max() + high)
            shifts = [0.0]
        return [((west, south, east, north), shift) for shift in shifts]

    def _read(self, box: tuple[float, float, float, float], shift: float) -> tuple[Shapes, list[int | None]]:
        """Valid polygons of a box, and the label value of each; None where it is not to be scored."""
        from pyogrio.raw import read

        west, south, east, north = box
        try:
            _, fids, geometry, fields = read(
                self._path,
                layer=self._layer,
                columns=[ATTRIBUTE],
                bbox=(west - shift, south, east - shift, north),
                force_2d=True,
                return_fids=True,
            )
        except (RuntimeError, ValueError) as error:
            raise DataRefused(
                f"the polygons cannot be read ({_line(error)})", where=self.where, fix="Save them again"
            ) from error
        shapes: Shapes = shapely.from_wkb(geometry, on_invalid="fix")
        broken = ~(shapely.is_valid(shapes) | shapely.is_missing(shapes))
        shapes[broken] = shapely.make_valid(shapes[broken])
        new = set(fids[broken].tolist()) - self._mended
        self._mended |= new
        if new:
            log.warning("%s: %d invalid geometries were made valid", self.where, len(new))
        shapes, features = _polygons(shapes)
        return shapes, [self._label_value(value) for value in fields[0][features].tolist()]

    def _label_value(self, said: Any) -> int | None:
        """The label value that an attribute stands for: the first of its class; None for a value that is ignored.

        Raises:
            DataRefused: If it stands for no class.
        """
        by_name = {definition.name: definition.label_values[0] for definition in self._data.classes}
        if said in by_name:
            return by_name[said]
        try:
            number = float(said)
        except (TypeError, ValueError):
            number = float("nan")
        for definition in self._data.classes:
            if number in definition.label_values:
                return definition.label_values[0]
        if number in self._data.ignore_label_values:
            return None
        raise DataRefused(
            f"a polygon's {ATTRIBUTE} is {said!r}, which stands for no class",
            where=self.where,
            fix=f"Give each {self._told_classes()}",
        )

    def _placed(self, shapes: Shapes, box: tuple[float, float, float, float], shift: float, grid: GeoBox) -> Shapes:
        """Geometries in the CRS of a grid: cut to the box, since what is far away has no place in many a CRS."""
        import pyproj

        if shift:
            shapes = shapely.transform(shapes, lambda xy: xy + np.array([shift, 0.0]))
        if pyproj.CRS(self.crs) == pyproj.CRS(str(grid.crs)) and not self._geographic:
            return shapes
        west, south, east, north = box
        shapes = shapely.intersection(shapes, shapely.box(west, south, east, north))
        shapes = shapely.segmentize(shapes, max(east - west, north - south) / _PIECES)
        project = transformer(self.crs, str(grid.crs))
        centre = (grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2))[0]

        def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = project.transform(xy[:, 0], xy[:, 1])
            if grid.crs is not None and grid.crs.geographic:
                x = centre + (x - centre + 180) % 360 - 180  # the same longitude, as the grid counts it
            return np.column_stack([x, y])

        placed: Shapes = shapely.transform(shapes, place)
        if not np.isfinite(shapely.get_coordinates(placed)).all():
            raise DataRefused(
                "polygons cannot be projected to the scene's CRS", where=self.where, fix="Save them in a CRS near it"
            )
        return placed


def _polygons(shapes: Shapes) -> tuple[Shapes, NDArray[np.int64]]:
    """The polygons that geometries consist of, and the number of the geometry that each is of; no lines, no points."""
    parts, first = shapely.get_parts(shapes, return_index=True)  # of collections
    parts, second = shapely.get_parts(parts, return_index=True)  # of multipolygons in them
    kept = (shapely.get_type_id(parts) == _POLYGON) & ~shapely.is_empty(parts)
    return parts[kept], first[second][kept]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
