"""A STAC item that others wrote: judged before anything of it is used."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, ValidationError

from eo_data.digests import canonical_json
from eo_data.errors import DataRefused


class _Part(BaseModel):
    """Base of the parts of an item that are read."""

    model_config = ConfigDict(extra="ignore")


class _Asset(_Part):
    roles: list[str] | None = None
    type: str | None = None
    bands: list[dict[str, Any]] | None = None
    eo_bands: list[dict[str, Any]] | None = Field(default=None, alias="eo:bands")
    raster_bands: list[dict[str, Any]] | None = Field(default=None, alias="raster:bands")


class _Shape(_Part):
    """The shape of what is read of an item."""

    bbox: list[StrictFloat | StrictInt] | None = None
    collection: str | None = None
    assets: dict[str, _Asset]


def require_item(document: Any, where: str) -> dict[str, Any]:
    """The item, in STAC 1.0 or newer.

    Args:
        document: The JSON of what should be an item.
        where: Where it was read.

    Raises:
        DataRefused: If it is no item, of STAC 0.7 or older, or has no id, time or assets.
    """
    kind = document.get("type") if isinstance(document, dict) else None
    if kind != "Feature":
        what = f"a {kind} stands" if isinstance(kind, str) else "something else stands"
        if isinstance(document, dict) and kind is None and "links" in document:
            what = "a catalog stands"  # before STAC 1.0 they had no type
        raise DataRefused(
            f"{what} where an item should", where=where, fix="Correct the link, or give its URI as --source"
        )
    try:
        canonical_json(document)
    except ValueError as error:  # NaN and infinity, which Python reads and JSON has not
        raise DataRefused(f"the item is no JSON ({error})", where=where, fix="Write it anew") from error
    item = _current(document, where)
    if not isinstance(item.get("id"), str) or not item["id"]:
        raise DataRefused("the item has no id", where=where, fix="Correct the item")
    properties = item.get("properties")
    if not isinstance(properties, dict):
        raise DataRefused("the item has no properties", where=where, fix="Correct the item")
    _require_time(properties, where)
    assets = item.get("assets")
    if not isinstance(assets, dict) or not assets:
        raise DataRefused("the item has no assets", where=where, fix="Add the rasters, or leave it out")
    if not all(isinstance(asset, dict) and isinstance(asset.get("href"), str) for asset in assets.values()):
        raise DataRefused("an asset has no href", where=where, fix="Correct the item")
    try:
        _Shape.model_validate(item)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise DataRefused(
            f"the item is not what STAC says ({'.'.join(map(str, fault['loc']))}: {fault['msg']})",
            where=where,
            fix="Correct the item",
        ) from error
    return item


def _current(document: dict[str, Any], where: str) -> dict[str, Any]:
    """The item as it is, or brought to the present version of STAC."""
    said = document.get("stac_version")
    try:
        major, minor = (int(part) for part in str(said).split(".")[:2])
    except ValueError:
        raise DataRefused(f"stac_version '{said}' is none", where=where, fix="Correct the item") from None
    if (major, minor) < (0, 8):
        raise DataRefused(
            f"the item is of STAC {said}, which is older than 0.8",
            where=where,
            fix="Bring it to STAC 1.0 or newer, or ingest its rasters as a folder",
        )
    if major >= 1:
        return document
    import pystac

    try:
        return pystac.Item.from_dict(document, href=where, migrate=True, preserve_dict=True).to_dict(
            include_self_link=False, transform_hrefs=False
        )
    except Exception as error:  # pystac raises whatever the item's fault leads to
        raise DataRefused(
            f"the item of STAC {said} cannot be brought to 1.0 ({type(error).__name__})", where=where, fix="Correct it"
        ) from error


def _require_time(properties: dict[str, Any], where: str) -> None:
    from pystac.utils import str_to_datetime

    named = {name: properties.get(name) for name in ("datetime", "start_datetime", "end_datetime")}
    if named["datetime"] is None and None in (named["start_datetime"], named["end_datetime"]):
        raise DataRefused(
            "the item has neither datetime nor start_datetime and end_datetime", where=where, fix="Add them to the item"
        )
    for name, text in named.items():
        try:
            str_to_datetime(text) if text is not None else None
        except Exception as error:  # whatever the parser raises: it is no time
            raise DataRefused(f"{name} '{text}' is no RFC 3339 time", where=where, fix="Correct the item") from error
