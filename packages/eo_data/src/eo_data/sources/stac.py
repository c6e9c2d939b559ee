"""Scenes out of STAC: from an API, a static catalog, a collection of items or an item, composed of their assets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from eo_data.digests import json_digest
from eo_data.errors import DataRefused
from eo_data.scene import IMAGE_ASSET
from eo_data.sources.area import Area
from eo_data.sources.candidate import Candidate, Fetched
from eo_data.sources.compose import compose
from eo_data.sources.remote_rasters import is_remote, plain
from eo_data.sources.stac_assets import ChosenBand, choose_assets, without_signatures
from eo_data.sources.stac_documents import Found, StacDocuments
from eo_data.sources.stac_search import stac_search
from eo_data.store import local_path
from eo_data.usecase import DataSection

_COMPOSED = 1
"""Part of the fingerprint; raised when the same assets are composed to other pixels."""


class StacSource:
    """A STAC API, static catalog, collection of items or single item.

    Args:
        uri: Its http(s)://, s3:// or file:// URI or path.
        data: The use case's data section.
        bbox: West, south, east, north in degrees: only scenes that touch it, and of them only this window.
        datetime: A time, date, month or year, or two of them with a slash between.
        collections: Ids of collections; none is all.
        limit: The most scenes.

    Raises:
        UsageError: If the area, the time or the limit is impossible.
    """

    def __init__(
        self,
        uri: str,
        data: DataSection,
        *,
        bbox: Area | None = None,
        datetime: str | None = None,
        collections: Sequence[str] = (),
        limit: int | None = None,
    ) -> None:
        self._uri = uri
        self._data = data
        self._area = bbox
        self._search = stac_search(bbox, datetime, collections, limit)
        self.name = _source_name(uri)

    def candidates(self) -> list[Candidate]:
        """The scenes on offer, sorted by id; one that cannot be taken bears its fault.

        Raises:
            DataRefused: If nothing is found, or the source is no STAC document.
            TemporaryFailure: If its server does not answer.
            UsageError: If there is no such file.
        """
        with StacDocuments() as documents:
            found = [self._candidate(one) for one in documents.find(self._uri, self._search)]
        if not found:
            raise DataRefused(
                f"no scene is found ({self._search})", where=plain(self._uri), fix="Widen the search, or check --source"
            )
        chosen: dict[str, Candidate] = {}
        for candidate in found:
            other = chosen.setdefault(candidate.id, candidate)
            if other is not candidate and other.fault is None:
                fault = DataRefused(
                    f"this id stands for {other.where} and for {candidate.where}",
                    where=candidate.id,
                    fix="Name one collection with --collections, or list an item once",
                )
                chosen[candidate.id] = replace(other, fault=fault)
        return [chosen[id_] for id_ in sorted(chosen)]

    def fetch(self, candidate: Candidate, folder: Path) -> Fetched:
        """Compose a candidate's bands in the folder.

        The item that comes with it holds the source's properties, without those on the projection of its files, and
        one asset with what the source says of each band's values.

        Raises:
            DataRefused: If a file cannot be used, or the candidate has a fault.
            TemporaryFailure: If a server does not answer, or the folder is full.
        """
        if candidate.fault is not None or candidate.item is None:
            raise candidate.fault or DataRefused("there is no item", where=candidate.where, fix="Search again")
        chosen = choose_assets(candidate.item, self._data, candidate.where)
        target = folder / f"{json_digest([candidate.collection, candidate.id])[:16]}.tif"
        compose([one.file for one in chosen], self._data, target, where=candidate.where, area=self._area)
        return Fetched(target, None, composed_item(candidate.item, candidate.where, candidate.collection, chosen))

    def _candidate(self, found: Found) -> Candidate:
        where = plain(found.where)
        if found.item is None:
            return Candidate(PurePosixPath(urlsplit(where).path).stem, self.name, where, fault=found.fault)
        item = found.item
        collection = item.get("collection")
        candidate = Candidate(item["id"], collection if isinstance(collection, str) else self.name, where, item=item)
        try:
            _require_reachable(item, found.where)
            chosen = choose_assets(item, self._data, where)
        except DataRefused as fault:
            return replace(candidate, fault=fault)
        identity = {
            "collection": candidate.collection,
            "item": {key: value for key, value in item.items() if key not in {"links", "assets"}},
            "bands": without_signatures(chosen),
            "files": [_stamp(one.file.href) for one in chosen],
            "data": self._data.model_dump(mode="json", include={"bands", "inputs", "grid", "reflectance"}),
            "area": self._area,
            "composed": _COMPOSED,
        }
        return replace(candidate, fingerprint=json_digest(identity))


def _stamp(href: str) -> list[int] | None:
    """Size and modification time of a local file, which may be replaced under the same name; None of others."""
    if is_remote(href) or ("://" in href and not href.startswith("file:")):
        return None
    try:
        facts = local_path(href).stat()
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _require_reachable(item: dict[str, Any], where: str) -> None:
    """Refuse a catalog of the network that names files of this machine."""
    if is_remote(where) and any(asset["href"].startswith("file:") for asset in item["assets"].values()):
        raise DataRefused(
            "the item is read over the network and names a local file", where=plain(where), fix="Correct its hrefs"
        )


def composed_item(item: dict[str, Any], where: str, collection: str, chosen: Sequence[ChosenBand]) -> dict[str, Any]:
    """The item of an image that `compose` made; geometry and grid are left to who reads the raster.

    Args:
        item: The source's own item.
        where: Its address.
        collection: Its collection.
        chosen: The bands that the image holds, in their order.
    """
    bands = []
    for one in chosen:
        common = {"eo:common_name": one.band.common_name} if one.band.common_name else {}
        bands.append({"name": one.band.name, **common, **one.values})
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": item["id"],
        "collection": collection,
        "geometry": None,
        "properties": {key: value for key, value in item["properties"].items() if not key.startswith("proj:")},
        "links": [{"rel": "derived_from", "href": where}],
        "assets": {IMAGE_ASSET: {"href": "./image.tif", "type": "image/tiff; application=geotiff", "bands": bands}},
    }


def _source_name(uri: str) -> str:
    """A name for the source: that of its host and path, or of its file or folder."""
    if is_remote(uri):
        parts = urlsplit(uri)
        text = parts.netloc + parts.path
    else:
        path = PurePosixPath(urlsplit(uri).path)
        text = path.parent.name if path.name in {"catalog.json", "collection.json"} else path.name
    text = text.removesuffix(".json")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:128] or "stac"
