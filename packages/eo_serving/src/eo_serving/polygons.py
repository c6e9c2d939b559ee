"""A mask as polygons: GeoJSON (RFC 7946), one feature for each connected part of a class."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.usecase import IGNORE
from eo_serving.problem import TooLarge

if TYPE_CHECKING:
    from eo_data.model.description import ModelClass
    from eo_serving.ground import Ground

_DECIMALS: Final = 7
"""Of a degree: a centimetre."""
_LONGEST: Final = (128, 50e3)
"""Pixels and metres of an edge: longer ones are parted, for what is straight on the grid bends on the globe."""

_OPEN: Final = 1.0
"""Degrees between a ring's two ends from which on it has gone around the globe."""

_Ring = list[tuple[float, float]]
_Path = tuple[NDArray[np.float64], NDArray[np.float64]]


def polygons(
    mask: NDArray[np.uint8],
    probability: NDArray[np.float32],
    ground: Ground,
    classes: Sequence[ModelClass],
    most: int,
) -> dict[str, Any]:
    """The parts of a mask, from the upper left to the lower right.

    Args:
        mask: Class indexes `[H, W]`, 255 without data, which no polygon covers.
        probability: Of the class that each pixel has, `[H, W]`.
        ground: Where the raster lies.
        classes: The model's classes.
        most: How many polygons may be made.

    Returns:
        A FeatureCollection in longitude and latitude (OGC:CRS84). A feature's properties are `class`, `name`,
        `pixels`, `area_m2` (on the ellipsoid) and `mean_probability`. Parts touch along edges, not at corners. What
        crosses the antimeridian is cut there.

    Raises:
        TooLarge: If there are more polygons.
        DataRefused: If the raster has no place on Earth.
    """
    from rasterio.features import rasterize

    parts = list(_parts(mask, most))
    labels = np.zeros(mask.shape, dtype=np.int32)
    if parts:  # outlines along pixel edges, burnt where they were found, give back exactly their pixels
        labels = rasterize([(shape, n) for n, (shape, _) in enumerate(parts, start=1)], mask.shape, dtype="int32")
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=len(parts) + 1)
    likely = np.bincount(flat, probability.ravel(), minlength=len(parts) + 1)
    areas = np.bincount(flat, ground.pixel_areas(0, mask.shape[0]).ravel(), minlength=len(parts) + 1)
    names = {c.value: c.name for c in classes}
    features = [
        {
            "type": "Feature",
            "properties": {
                "class": value,
                "name": names[value],
                "pixels": int(pixels[n]),
                "area_m2": round(float(areas[n]), 2),
                "mean_probability": round(float(likely[n] / pixels[n]), 4),
            },
            "geometry": _geometry(shape["coordinates"], ground),
        }
        for n, (shape, value) in enumerate(parts, start=1)
    ]
    return {"type": "FeatureCollection", "features": features}


def _parts(mask: NDArray[np.uint8], most: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Outlines in columns and rows, and their classes."""
    from rasterio.features import shapes

    for number, (shape, value) in enumerate(shapes(mask, mask=mask != IGNORE, connectivity=4)):
        if number >= most:
            raise TooLarge(
                f"the mask falls into more than {most} polygons",
                where="body",
                fix="Ask for image/tiff, or cut the raster",
            )
        yield shape, int(value)


def _geometry(rings: Sequence[Sequence[tuple[float, float]]], ground: Ground) -> dict[str, Any]:
    longest = max(1, min(_LONGEST[0], int(_LONGEST[1] / ground.widest_pixel)))
    placed = [ground.path(*_part_long_edges(np.asarray(ring, dtype=np.float64), longest).T) for ring in rings]
    longitude, _ = placed[0]
    if abs(longitude[-1] - longitude[0]) > _OPEN:
        return _around_a_pole(placed)
    if any(np.abs(lon).max() > 180 for lon, _ in placed):
        return _cut_at_antimeridian(placed)
    outer, *holes = (_closed(lon, lat) for lon, lat in placed)
    wound = [_wound(outer, counterclockwise=True), *(_wound(hole, counterclockwise=False) for hole in holes)]
    return {"type": "Polygon", "coordinates": wound}


def _part_long_edges(ring: NDArray[np.float64], longest: int) -> NDArray[np.float64]:
    counts = np.maximum(1, np.ceil(np.abs(np.diff(ring, axis=0)).max(axis=1) / longest)).astype(int)
    pieces = [
        start + (end - start) * (np.arange(count) / count)[:, None]
        for start, end, count in zip(ring[:-1], ring[1:], counts, strict=True)
    ]
    return np.concatenate([*pieces, ring[-1:]])


def _closed(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> _Ring:
    ring = list(zip(longitude.round(_DECIMALS).tolist(), latitude.round(_DECIMALS).tolist(), strict=True))
    return [*ring[:-1], ring[0]]


def _wound(ring: _Ring, *, counterclockwise: bool) -> _Ring:
    points = np.asarray(ring) - ring[0]  # small numbers: the area of a pixel is lost in those of the globe
    doubled = np.sum(points[:-1, 0] * points[1:, 1] - points[1:, 0] * points[:-1, 1])
    return ring if (doubled > 0) == counterclockwise else ring[::-1]


def _cut_at_antimeridian(placed: Sequence[_Path]) -> dict[str, Any]:
    """What passes 180 degrees, cut there; longitudes run on beyond it until here."""
    from shapely import box, intersection, union_all
    from shapely.affinity import translate
    from shapely.geometry import Polygon

    outer, *holes = ([*zip(_near(lon, placed[0][0]).tolist(), lat.tolist(), strict=True)] for lon, lat in placed)
    whole = Polygon(outer, holes)
    west, _, east, _ = whole.bounds
    turns = range(math.floor((west + 180) / 360), math.ceil((east + 180) / 360))
    cut = [
        translate(intersection(whole, box(360 * turn - 180, -90, 360 * turn + 180, 90)), -360 * turn) for turn in turns
    ]
    return _multipolygon(union_all(cut))  # of a grid from 0 to 360 both ends meet at 0


def _near(longitude: NDArray[np.float64], outer: NDArray[np.float64]) -> NDArray[np.float64]:
    """A hole's longitudes on the same turn as its outline's."""
    moved: NDArray[np.float64] = longitude + 360 * np.ceil((outer.min() - longitude.min() - _OPEN) / 360)
    return moved


def _around_a_pole(placed: Sequence[_Path]) -> dict[str, Any]:
    """What has a pole inside: its outline runs once around the globe."""
    import antimeridian
    from shapely.geometry import shape

    outer, *holes = ([*zip(((lon + 180) % 360 - 180).tolist(), lat.tolist(), strict=True)] for lon, lat in placed)
    # Edges are parted as the grid has them: no great circle is to be thought between their points.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", antimeridian.FixWindingWarning)
        cut = antimeridian.fix_shape({"type": "Polygon", "coordinates": [outer, *holes]}, great_circle=False)
    return _multipolygon(shape(cut))


def _multipolygon(found: Any) -> dict[str, Any]:
    """One of shapely's shapes, made valid and wound as RFC 7946 wants."""
    from shapely import make_valid, set_precision
    from shapely.geometry import Polygon
    from shapely.geometry.polygon import orient

    valid = set_precision(make_valid(found), 10.0**-_DECIMALS)
    parts = [orient(one) for one in getattr(valid, "geoms", [valid]) if isinstance(one, Polygon) and not one.is_empty]
    rings = [_rounded([ring.coords for ring in (part.exterior, *part.interiors)]) for part in parts]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _rounded(rings: Sequence[Any]) -> list[list[list[float]]]:
    return [np.asarray(ring).round(_DECIMALS).tolist() for ring in rings]
