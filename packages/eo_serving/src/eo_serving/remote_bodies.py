"""Bodies that name a raster instead of holding it: `{"href": ...}` and STAC items."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eo_data.errors import UsageError
from eo_serving.media import GEOJSON, JSON, MediaType
from eo_serving.remote_rules import require_allowed

if TYPE_CHECKING:
    from eo_data.usecase import DataSection
    from eo_serving.configuration import Remote

DEGREES: Final = "OGC:CRS84"
"""What a box's numbers are where nothing is said: longitude and latitude, as in GeoJSON."""

_MOST: Final = 2**20
"""Bytes of a body that only names a raster."""

Box = tuple[float, float, float, float]


class _Reference(BaseModel):
    """`{"href": ..., "bbox": [...], "crs": ...}`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    href: Annotated[str, Field(min_length=1, max_length=2048)]
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    crs: Annotated[str, Field(min_length=1, max_length=4096)] | None = None


@dataclass(frozen=True)
class RemoteRaster:
    """A raster that is named; either `href` or `item` is there.

    Attributes:
        href: Where it lies, http(s):// or s3://.
        item: The STAC item whose assets hold its bands.
        box: West, south, east, north: only these pixels are meant; None is all.
        crs: What the box's numbers are.
    """

    href: str | None = None
    item: dict[str, Any] | None = None
    box: Box | None = None
    crs: str = DEGREES


def names_raster(kind: MediaType, body: bytes) -> bool:
    """Whether a body names a raster: a STAC item, or JSON with `href`."""
    if kind.name == GEOJSON:
        return True
    # A tensor can be tens of megabytes: it is not parsed here to find out that it is one.
    if kind.name != JSON or len(body) > _MOST or b'"href"' not in body:
        return False
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "href" in found and not {"inputs", "instances"} & found.keys()


def parse_remote(kind: MediaType, body: bytes, box: str | None) -> RemoteRaster:
    """Read a body that names a raster.

    Args:
        kind: Its type.
        body: It.
        box: The query's `bbox`, for items; None where there is none.

    Raises:
        UsageError: If it is neither a reference nor a GeoJSON object.
        DataRefused: If it is no usable STAC item.
    """
    if len(body) > _MOST:
        raise UsageError(f"{len(body)} bytes are too many for an item", where="body", fix="Send the item alone")
    if kind.name == GEOJSON:
        from eo_data.sources.stac_items import require_item

        try:
            item = require_item(json.loads(body), "body")
        except (ValueError, RecursionError) as error:
            raise UsageError("this is no JSON", where="body", fix="Send a STAC item") from error
        return RemoteRaster(item=item, box=None if box is None else _area(box.split(",")))
    if box is not None:
        raise UsageError("the box stands in the body here", where="bbox", fix='Send {"href": ..., "bbox": [...]}')
    try:
        said = _Reference.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UsageError(
            f"{'.'.join(map(str, fault['loc'])) or 'the body'}: {fault['msg']}"[:200],
            where="body",
            fix='Send {"href": "https://...", "bbox": [west, south, east, north], "crs": "EPSG:..."}',
        ) from error
    if said.crs is not None and said.bbox is None:
        raise UsageError("a CRS without a box", where="crs", fix="Give both, or leave both out")
    return RemoteRaster(href=said.href, box=None if said.bbox is None else _box(said.bbox), crs=said.crs or DEGREES)


def require_reachable(remote: RemoteRaster, data: DataSection, rules: Remote) -> None:
    """Refuse what names an address that is not listed; of an item, the assets that would be read.

    Raises:
        DataRefused: If an address is not listed, or the item lacks a band.
    """
    if remote.item is None:
        require_allowed(remote.href or "", rules, "href")
        return
    from eo_data.sources.stac_assets import choose_assets

    for chosen in choose_assets(remote.item, data, "body"):
        require_allowed(chosen.file.href, rules, f"asset of band {chosen.band.name}")


def _box(numbers: list[float]) -> Box:
    west, south, east, north = numbers
    if not west < east or not south < north:
        raise UsageError(
            f"{west:g} {south:g} {east:g} {north:g} is no box", where="bbox", fix="Give west, south, east, north"
        )
    return west, south, east, north


def _area(texts: list[str]) -> Box:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise UsageError("this is no box", where="bbox", fix="Give west,south,east,north in degrees")
    return _box(numbers)
