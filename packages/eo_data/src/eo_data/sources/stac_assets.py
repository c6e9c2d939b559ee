"""Which assets of a STAC item hold a use case's bands, and what the item says of their values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from eo_data.bands import Band, band_key
from eo_data.errors import DataRefused
from eo_data.sources.band_files import BandFile
from eo_data.sources.remote_rasters import plain
from eo_data.usecase import DataSection

_NO_DATA_ROLES = frozenset({"thumbnail", "overview", "metadata", "visual"})
_RASTER_SUFFIXES = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True)
class BandAsset:
    """A band that an asset offers.

    Attributes:
        names: What the item calls it, comparable (see `band_key`).
        href: Where its raster lies.
        index: Its number in that raster.
        values: `raster:scale` and `raster:offset`, as far as the item states them.
        rank: What is preferred comes first: GeoTIFF before JP2, then the finest, then the fewest bands, then by key.
    """

    names: frozenset[str]
    href: str
    index: int
    values: dict[str, Any]
    rank: tuple[bool, float, int, str]


@dataclass(frozen=True)
class ChosenBand:
    """A band of the use case, the file that holds it and what the item says of its values."""

    band: Band
    file: BandFile
    values: dict[str, Any]


def choose_assets(item: dict[str, Any], data: DataSection, where: str) -> list[ChosenBand]:
    """The use case's bands among an item's assets, in the order of its full list.

    A band is found by its name first, and by its common name or an alias second; what was found for one band is
    not taken for another. Thumbnails, overviews, metadata and pictures for people are passed over.

    Args:
        item: The item; its assets' hrefs are absolute.
        data: The use case's data section.
        where: What the item is called in messages.

    Raises:
        DataRefused: If an input band is missing.
    """
    offered = [offer for key, asset in item["assets"].items() for offer in _offers(key, asset)]
    taken: dict[str, BandAsset] = {}
    for by_name in (True, False):
        for band in data.bands:
            keys = {band_key(band.name)} if by_name else band.keys
            fits = [offer for offer in offered if offer.names & keys]
            if band.name not in taken and fits:
                taken[band.name] = best = min(fits, key=lambda offer: (*offer.rank, offer.index))
                # Other copies of this band, such as JP2 beside COG, are none of another band.
                offered = [offer for offer in offered if offer is not best and not (offer.names & keys & best.names)]
    missing = [band.name for band in data.input_bands if band.name not in taken]
    if missing:
        raise DataRefused(
            f"band {missing[0]} is missing (the item's assets: {', '.join(item['assets'])})",
            where=where,
            fix="Name it in the use case's data.bands as the item does, or choose another collection",
        )
    return [
        ChosenBand(band, BandFile(band.name, offer.href, offer.index), offer.values)
        for band in data.bands
        if (offer := taken.get(band.name))
    ]


def _offers(key: str, asset: dict[str, Any]) -> Iterator[BandAsset]:
    """The bands of an asset; none where it is no raster of data."""
    if set(asset.get("roles") or ()) & _NO_DATA_ROLES or not _is_raster(asset):
        return
    named = [block if isinstance(block, dict) else {} for block in asset.get("bands") or asset.get("eo:bands") or [{}]]
    raster = [block if isinstance(block, dict) else {} for block in asset.get("raster:bands") or []]
    for index, block in enumerate(named, start=1):
        names = {block.get("name"), block.get("eo:common_name"), block.get("common_name")}
        if len(named) == 1:
            names.add(key)
        said = raster[index - 1] if len(raster) == len(named) else {}
        yield BandAsset(
            names=frozenset(band_key(name) for name in names if isinstance(name, str) and name.strip()),
            href=asset["href"],
            index=index,
            values=_values(asset, block, said),
            rank=(_is_jp2(asset), _resolution(asset, said), len(named), key),
        )


def _values(asset: dict[str, Any], block: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Scale and offset: of STAC 1.1's band, of its asset, else of STAC 1.0's `raster:bands`."""
    found: dict[str, Any] = {}
    for name in ("scale", "offset"):
        stated = [block.get(f"raster:{name}"), asset.get(f"raster:{name}"), said.get(name)]
        found |= {f"raster:{name}": value for value in stated[::-1] if value is not None}
    return found


def _media_type(asset: dict[str, Any]) -> str:
    return str(asset.get("type") or "").split(";")[0].strip().lower()


def _suffix(asset: dict[str, Any]) -> str:
    try:
        return PurePosixPath(urlsplit(asset["href"]).path).suffix.lower()
    except ValueError:  # no address at all
        return ""


def _is_jp2(asset: dict[str, Any]) -> bool:
    return _media_type(asset) == "image/jp2" or _suffix(asset) == ".jp2"


def _is_raster(asset: dict[str, Any]) -> bool:
    kind = _media_type(asset)
    if kind in {"", "application/octet-stream"}:
        return _suffix(asset) in _RASTER_SUFFIXES
    return kind in {"image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-geotiff"}


def _resolution(asset: dict[str, Any], said: dict[str, Any]) -> float:
    """Side of a pixel as the item states it; what states none comes last."""
    place = asset.get("proj:transform")
    stated = [asset.get("raster:spatial_resolution"), said.get("spatial_resolution"), asset.get("gsd")]
    stated += [abs(place[0])] if isinstance(place, list) and place and isinstance(place[0], int | float) else []
    return next((float(value) for value in stated if isinstance(value, int | float) and value > 0), math.inf)


def without_signatures(chosen: list[ChosenBand]) -> list[list[Any]]:
    """What was chosen, for a digest: a signed href differs each time, and what follows its `?` is left out."""
    return [[one.band.name, plain(one.file.href), one.file.index, one.values] for one in chosen]
