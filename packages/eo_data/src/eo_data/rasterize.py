"""Polygons of classes as a label: a pixel is inside a polygon where its centre is."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from eo_data.label_store import LabelType, label_type
from eo_data.overlap import places
from eo_data.usecase import DataSection

Shapes = NDArray[np.object_]
"""shapely's geometries."""


class Drawing:
    """Polygons in the CRS of a grid, burnt strip by strip.

    Args:
        grid: The grid.
        shapes: Polygons by label value; under None those whose pixels are not scored.
        data: Whose classes these are, and which lies outside all polygons.

    Attributes:
        kind: What the label is written as.
        touched: Whether any pixel burnt so far is inside a polygon with a class.
        contested: How many pixels burnt so far polygons of two classes claim; they are not scored.
    """

    def __init__(self, grid: GeoBox, shapes: dict[int | None, Shapes], data: DataSection) -> None:
        values = [definition.label_values[0] for definition in data.classes]
        outside = [d.label_values[0] for d in data.classes if d.name == data.labels.outside]
        self.kind: LabelType = label_type(min(values), max(values), values)
        self.touched = False
        self.contested = 0
        self._grid = grid
        self._outside = outside[0] if outside else self.kind.absent
        self._shapes = {value: several for value, several in shapes.items() if len(several)}
        self._trees = {value: shapely.STRtree(several) for value, several in self._shapes.items()}

    def __bool__(self) -> bool:
        """Whether there is anything to burn."""
        return any(value is not None for value in self._shapes)

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """The label of the rows from `top` to `bottom`, `[bottom - top, width]`."""
        label = np.full((bottom - top, self._grid.shape[1]), self._outside, dtype=self.kind.dtype)
        claims = np.zeros(label.shape, np.uint8)
        for value in self._shapes:
            if value is not None:
                burnt = self._burnt(value, top, bottom)
                label[burnt] = value
                claims += burnt
        self.touched |= bool(claims.any())
        self.contested += int((claims > 1).sum())
        label[(claims > 1) | self._burnt(None, top, bottom)] = self.kind.absent
        return label

    def _burnt(self, value: int | None, top: int, bottom: int) -> NDArray[np.bool_]:
        """Which pixels of rows are inside a polygon of a value."""
        part = self._grid[top:bottom, :]
        none = np.zeros(part.shape, np.bool_)
        if value not in self._shapes:
            return none
        columns, rows = np.array([0, part.shape[1]] * 2), np.repeat([0, part.shape[0]], 2)
        x, y = places(part.affine, columns, rows)
        near = self._trees[value].query(shapely.box(x.min(), y.min(), x.max(), y.max()))
        if not near.size:
            return none
        transform = Affine(*part.affine[:6])
        burnt = rasterize(list(self._shapes[value][near]), out_shape=none.shape, transform=transform, dtype="uint8")
        result: NDArray[np.bool_] = burnt == 1
        return result
