"""STAC items of scenes: made from a raster and what the source's own item adds."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError

from eo_data.bands import band_key
from eo_data.digests import json_digest
from eo_data.errors import DataRefused
from eo_data.radiometry import choose_radiometry
from eo_data.reflectance import Reflectance
from eo_data.scene import GRID, IMAGE_ASSET, PIXELS, PLACE, SIMULATED, SOURCE_SPLIT
from eo_data.sources.candidate import Candidate

RADIOMETRIC: Final = (
    "s2:processing_baseline", "processing:version", "s2:product_uri", "sentinel:product_id",
    "earthsearch:boa_offset_applied", "sentinel:boa_offset_applied",
)  # fmt: skip
"""Properties that say how values were processed: they may decide a scene's radiometry."""

KEPT: Final = (
    "datetime", "start_datetime", "end_datetime", "platform", "constellation", "instruments", "gsd", "title",
    "eo:cloud_cover", "processing:level", "s2:product_type", *RADIOMETRIC, PLACE, SIMULATED,
)  # fmt: skip
"""Properties that are taken over from a source's item."""

_EDGE_POINTS: Final = 32
"""Points along each edge of a footprint: straight in the raster's CRS is curved in degrees."""


def describe_grid(dataset: Any) -> str:
    """A raster's grid in words that are equal for equal grids: CRS, transform, size."""
    crs = dataset.crs.to_string() if dataset.crs else "none"
    if len(crs) > 40:  # a WKT without an authority's code
        crs = json_digest(crs)[:16]
    transform = ",".join(f"{value:.12g}" for value in dataset.transform[:6])
    return f"{crs} [{transform}] {dataset.height}x{dataset.width}"


def make_item(candidate: Candidate, dataset: Any, pixels: str) -> dict[str, Any]:
    """A STAC 1.1 item of a raster, with `proj:*`, `bands` and, where the source says it, `raster:scale`.

    Args:
        candidate: What the source offers.
        dataset: The raster, open in rasterio; its place is one (see `require_place`).
        pixels: Digest of its decoded pixels.

    Raises:
        DataRefused: If it has no CRS and the source gave neither place nor list, or the source's own item is at
            odds with it.
    """
    given = (candidate.item or {}).get("properties", {})
    properties: dict[str, Any] = {key: given[key] for key in KEPT if given.get(key) is not None}
    if candidate.source_split is not None:
        properties[SOURCE_SPLIT] = candidate.source_split
    if dataset.crs is None and not {PLACE, SOURCE_SPLIT} & set(properties):
        raise DataRefused(
            "no CRS, no place and no list: nobody can tell which side of a split it is on",
            where=candidate.where,
            fix="Give the raster a CRS, the item a terraloop:place, or the folder a list that the use case names",
        )
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    properties.setdefault("datetime", None)
    if properties["datetime"] is None:
        # STAC wants a time; where the source tells none, the widest honest range.
        properties.setdefault("start_datetime", "1970-01-01T00:00:00Z")
        properties.setdefault("end_datetime", now)
    properties |= {"created": now, PIXELS: pixels, GRID: describe_grid(dataset)}
    properties |= projection_fields(dataset)
    geometry, bbox = footprint(dataset)
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
        ],
        "id": candidate.id,
        "collection": candidate.collection,
        "geometry": geometry,
        "properties": properties,
        "links": [],
        "assets": {IMAGE_ASSET: _asset(candidate, dataset)},
    }
    if bbox is not None:
        item["bbox"] = bbox
    return item


def _asset(candidate: Candidate, dataset: Any) -> dict[str, Any]:
    asset: dict[str, Any] = {
        "href": "./image.tif",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        "data_type": dataset.dtypes[0],
    }
    if dataset.nodata is not None:
        asset["nodata"] = dataset.nodata if math.isfinite(dataset.nodata) else str(dataset.nodata)
    given = ((candidate.item or {}).get("assets") or {}).get(IMAGE_ASSET, {})
    asset |= {key: given[key] for key in ("raster:scale", "raster:offset") if key in given}
    asset["bands"] = _bands(_given_bands(given, dataset.count), dataset, candidate.where)
    for band in asset["bands"]:  # bands may differ: which are read, the use case says; each must be possible
        choose_radiometry(Reflectance(), asset={**asset, "bands": [band]})
    return asset


def _given_bands(given: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The bands of a source's asset: STAC 1.1's `bands`, with scale and offset out of STAC 1.0's `raster:bands`.

    Raises:
        DataRefused: If the two differ in number.
    """
    older = given.get("raster:bands") or []
    bands = given.get("bands") or [{}] * (len(older) or count)
    if not older:
        return list(bands)
    if len(older) != len(bands):
        raise DataRefused(
            f"the item has {len(bands)} bands and {len(older)} raster:bands", where="item", fix="Correct the item"
        )
    keys = {"scale": "raster:scale", "offset": "raster:offset"}
    said = [{new: block[old] for old, new in keys.items() if block.get(old) is not None} for block in older]
    return [{**band, **extra} for band, extra in zip(bands, said, strict=True)]


def _bands(given: list[dict[str, Any]], dataset: Any, where: str) -> list[dict[str, Any]]:
    """The item's bands, with the raster's descriptions where the item has no name.

    Raises:
        DataRefused: If they are not as many as the raster's, or the raster describes another band by a name.
    """
    if len(given) != dataset.count:
        raise DataRefused(
            f"the item names {len(given)} bands, the raster has {dataset.count}",
            where=where,
            fix="Correct the item's bands",
        )
    described = [band_key(name or "") for name in dataset.descriptions]
    bands = []
    for number, (band, description) in enumerate(zip(given, dataset.descriptions, strict=True), start=1):
        name = band.get("name") or description
        key = band_key(name or "")
        if key and key != described[number - 1] and key in described:
            raise DataRefused(
                f"the item calls band {number} '{name}', the raster calls band {described.index(key) + 1} so",
                where=where,
                fix="Correct the item's bands",
            )
        bands.append({**band, "name": name} if name else {k: v for k, v in band.items() if k != "name"})
    return bands


def projection_fields(dataset: Any) -> dict[str, Any]:
    """The `proj:*` fields of an open rasterio dataset."""
    fields: dict[str, Any] = {"proj:shape": [dataset.height, dataset.width]}
    if dataset.transform != Affine.identity():
        fields["proj:transform"] = list(dataset.transform[:6])
    if dataset.crs is None:
        return fields | {"proj:code": None}
    authority = dataset.crs.to_authority()
    if authority:
        return fields | {"proj:code": ":".join(authority)}
    return fields | {"proj:code": None, "proj:wkt2": dataset.crs.to_wkt()}


def footprint(dataset: Any) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Footprint and bounding box of an open rasterio dataset in EPSG:4326, as GeoJSON wants them.

    Across the 180th meridian the footprint is two polygons and the box's west is greater than its east
    (RFC 7946, sections 3.1.9 and 5.2); around a pole both reach to the pole. None without a CRS.

    Raises:
        DataRefused: If the CRS has no place on Earth.
    """
    if dataset.crs is None:
        return None, None
    import antimeridian

    try:
        ring = _outline(dataset)
        # The ring runs with the raster on its left, which is what tells the side of a pole or of the meridian.
        outline = antimeridian.fix_shape({"type": "Polygon", "coordinates": [ring.tolist()]}, fix_winding=False)
        box = antimeridian.bbox(outline)
    except (ProjError, ValueError) as error:  # shapely's errors are ValueErrors
        raise DataRefused("this CRS has no place on Earth", where="image", fix="Georeference it anew") from error
    geometry: dict[str, Any] = json.loads(json.dumps(outline))  # lists in place of tuples
    return geometry, [float(edge) for edge in box]


def _outline(dataset: Any) -> NDArray[np.float64]:
    """Points along a raster's edge `[n, 2]`, longitude and latitude, the raster on their left.

    Raises:
        ValueError: If one has no place on Earth.
    """
    from pyproj import Transformer

    along = np.linspace(0, 1, _EDGE_POINTS, endpoint=False)
    none, full = np.zeros(_EDGE_POINTS), np.ones(_EDGE_POINTS)
    # From the upper left corner down, then right, up and left.
    columns = np.concatenate([none, along, full, 1 - along]) * dataset.width
    rows = np.concatenate([along, full, 1 - along, none]) * dataset.height
    if dataset.transform.determinant > 0:  # south up or mirrored
        columns, rows = columns[::-1], rows[::-1]
    place = dataset.transform
    x, y = place.a * columns + place.b * rows + place.c, place.d * columns + place.e * rows + place.f
    transformer = Transformer.from_crs(dataset.crs.to_wkt(), "EPSG:4326", always_xy=True)
    ring = np.stack(transformer.transform(x, y), axis=1)
    if not np.isfinite(ring).all():
        raise ValueError("a corner that is nowhere")
    if dataset.crs.is_geographic and np.ptp(ring[:, 0]) >= 360:  # all around, maybe from 0 to 360
        south, north = ring[:, 1].min(), ring[:, 1].max()
        return np.array([[-180, south], [180, south], [180, north], [-180, north]])
    return ring
