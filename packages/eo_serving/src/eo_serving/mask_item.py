"""The STAC item of a mask: where it lies, what it shows, from which scene and by which model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rasterio
from pyproj.exceptions import ProjError
from rasterio.errors import NotGeoreferencedWarning

from eo_data.items import footprint, projection_fields
from eo_data.scene import SIMULATED
from eo_data.usecase import IGNORE

if TYPE_CHECKING:
    from eo_data.model.description import ModelClass

MASK_KEY: Final = "mask.tif"
ITEM_KEY: Final = "item.json"
QUICKLOOK_KEY: Final = "quicklook.png"

_KEPT: Final = ("datetime", "start_datetime", "end_datetime", "platform", "constellation", "gsd", SIMULATED)
"""Properties of the scene that are true of its mask."""


def mask_item(
    mask: Path,
    *,
    scene_id: str,
    scene_uri: str,
    scene_item: dict[str, Any] | None,
    classes: Sequence[ModelClass],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """A STAC 1.1 item as JSON.

    Args:
        mask: The finished COG.
        scene_id: The scene's id, which the mask shares.
        scene_uri: Where the scene lies.
        scene_item: The scene's STAC item; None where it has none.
        classes: The mask's classes.
        facts: Properties that say how it was made.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(mask) as dataset:
            projection = projection_fields(dataset)
            geometry, box = _place(dataset)
    known = (scene_item or {}).get("properties", {})
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    properties: dict[str, Any] = {key: known[key] for key in _KEPT if known.get(key) is not None}
    if properties.setdefault("datetime", None) is None:
        # STAC wants a time; where the source tells none, the widest honest range.
        properties.setdefault("start_datetime", "1970-01-01T00:00:00Z")
        properties.setdefault("end_datetime", now)
    properties |= {"created": now, **facts, **projection}
    link = {"rel": "derived_from", "href": scene_uri, "type": "application/geo+json" if scene_item else "image/tiff"}
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
        ],
        "id": scene_id,
        "geometry": geometry,
        "properties": properties,
        "links": [link],
        "assets": {
            "mask": {
                "href": f"./{MASK_KEY}",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data", "labels"],
                "data_type": "uint8",
                "nodata": IGNORE,
                "classification:classes": [
                    {"value": c.value, "name": c.name, "color_hint": c.color.lstrip("#").upper()} for c in classes
                ],
            },
            "quicklook": {"href": f"./{QUICKLOOK_KEY}", "type": "image/png", "roles": ["overview"]},
        },
    }
    if box is not None:
        item["bbox"] = box
    return item


def _place(dataset: Any) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Footprint and box; None for a raster without CRS, and for one whose CRS cannot be placed on Earth."""
    try:
        return footprint(dataset)
    except ProjError:
        return None, None
