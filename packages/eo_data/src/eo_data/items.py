"""STAC items of scenes: made from a raster and what the source's own item adds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from affine import Affine

from eo_data.digests import json_digest
from eo_data.errors import DataRefused
from eo_data.rasters import geobox_of
from eo_data.scene import IMAGE_ASSET, PIXELS, PLACE, SIMULATED, SOURCE_SPLIT
from eo_data.sources import Candidate

_KEPT = ("datetime", "start_datetime", "end_datetime", "platform", "constellation", "instruments", "gsd", "title",
         "eo:cloud_cover", "s2:processing_baseline", "processing:version", PLACE, SIMULATED)  # fmt: skip
"""Properties that are taken over from a source's item."""


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
        dataset: The raster, open in rasterio.
        pixels: Digest of its decoded pixels.

    Raises:
        DataRefused: If it has no CRS and the source gave neither place nor list, or its own item is at odds.
    """
    given = (candidate.item or {}).get("properties", {})
    properties: dict[str, Any] = {key: given[key] for key in _KEPT if given.get(key) is not None}
    if candidate.source_split is not None:
        properties[SOURCE_SPLIT] = candidate.source_split
    if dataset.crs is None and not {PLACE, SOURCE_SPLIT} & set(properties):
        raise DataRefused(
            "no CRS, no place and no list: nobody can tell which side of a split it is on",
            where=str(candidate.image),
            fix="Give the raster a CRS, the item a terraloop:place, or the folder a list that the use case names",
        )
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    properties.setdefault("datetime", None)
    if properties["datetime"] is None:
        # STAC wants a time; where the source tells none, the widest honest range.
        properties.setdefault("start_datetime", "1970-01-01T00:00:00Z")
        properties.setdefault("end_datetime", now)
    properties |= {"created": now, PIXELS: pixels, "terraloop:grid": describe_grid(dataset)}
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
        asset["nodata"] = dataset.nodata if dataset.nodata == dataset.nodata else "nan"
    given = ((candidate.item or {}).get("assets") or {}).get(IMAGE_ASSET, {})
    asset |= {key: given[key] for key in ("raster:scale", "raster:offset") if key in given}
    described = [name or "" for name in dataset.descriptions]
    bands = given.get("bands") or [{"name": name} if name else {} for name in described]
    if len(bands) != dataset.count:
        raise DataRefused(
            f"the item names {len(bands)} bands, the raster has {dataset.count}",
            where=str(candidate.image),
            fix="Correct the item's bands",
        )
    asset["bands"] = [dict(band) for band in bands]
    return asset


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
    """Footprint and bounding box in EPSG:4326; None without a CRS."""
    geobox = geobox_of(dataset)
    if geobox is None:
        return None, None
    outline = geobox.footprint("EPSG:4326")
    box = outline.boundingbox
    return outline.json, [box.left, box.bottom, box.right, box.top]
