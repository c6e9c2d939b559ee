"""A source's own STAC item: read and judged before anything of it is taken over."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictStr,
    ValidationError,
    model_validator,
)

from eo_data.digests import canonical_json
from eo_data.errors import DataRefused


def _stac_time(text: str) -> str:
    from pystac.utils import str_to_datetime

    try:
        str_to_datetime(text)
    except Exception as error:  # whatever the parser raises: it is no time
        raise ValueError(f"'{text}' is no RFC 3339 time") from error
    return text


Time = Annotated[StrictStr, AfterValidator(_stac_time)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Band(_Part):
    name: StrictStr | None = None


class _RasterBand(_Part):
    scale: FiniteFloat | None = None
    offset: FiniteFloat | None = None


class _Image(_Part):
    bands: tuple[_Band, ...] = ()
    raster_bands: tuple[_RasterBand, ...] = Field(default=(), alias="raster:bands")
    scale: FiniteFloat | None = Field(default=None, alias="raster:scale")
    offset: FiniteFloat | None = Field(default=None, alias="raster:offset")

    @model_validator(mode="before")
    @classmethod
    def _no_bands_is_none(cls, fields: Any) -> Any:
        return {k: v for k, v in fields.items() if v is not None} if isinstance(fields, dict) else fields


class _Assets(_Part):
    image: _Image = _Image()


class _Properties(_Part):
    datetime: Time | None = None
    start_datetime: Time | None = None
    end_datetime: Time | None = None
    place: StrictStr | None = Field(default=None, alias="terraloop:place", min_length=1)
    simulated: StrictBool | None = Field(default=None, alias="terraloop:simulated")


class _Item(_Part):
    id: StrictStr | None = None
    collection: StrictStr | None = None
    properties: _Properties = _Properties()
    assets: _Assets = _Assets()


def parse_item(data: bytes, where: str, scene_id: str) -> dict[str, Any]:
    """The item of a scene, as JSON.

    Only what Terraloop takes over is judged: `id`, `collection`, times, place, whether it is simulated, and the
    `image` asset's bands, scale and offset.

    Args:
        data: The file's bytes.
        where: Its path or URI, for messages.
        scene_id: The scene whose item it should be.

    Raises:
        DataRefused: If it is no JSON object, one of these is not what STAC says, or it is another scene's item.
    """
    try:
        content = json.loads(data)
        canonical_json(content)  # refuses NaN and infinity, which Python reads and JSON has not
    except (ValueError, RecursionError) as error:
        raise DataRefused(f"the item is no JSON ({error})", where=where, fix="Write it anew") from error
    try:
        item = _Item.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        said = {"model_type": "it must be an object", "tuple_type": "it must be a list"}.get(
            fault["type"], fault["msg"]
        )
        raise DataRefused(
            f"the item cannot be used ({'.'.join(map(str, fault['loc'])) or 'item'}: {said})",
            where=where,
            fix="Correct the item",
        ) from error
    if item.id not in {None, scene_id}:
        raise DataRefused(
            f"the item is that of '{item.id}'", where=where, fix="Name the file by the item's id, or correct the id"
        )
    return dict(content)
