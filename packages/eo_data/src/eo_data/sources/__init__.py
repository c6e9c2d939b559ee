"""Sources: where scenes come from. `open_source` finds the kind by the URI; each gives candidates and fetches them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from eo_data.errors import UsageError
from eo_data.sources.candidate import Source
from eo_data.store import as_uri, local_path
from eo_data.usecase import DataSection

if TYPE_CHECKING:
    from eo_data.sources.folder import FolderSource

_KINDS = (
    "a folder, s3://BUCKET/PREFIX, or a STAC API, catalog or item (http(s)://, *.json, or a folder with catalog.json)"
)


def open_source(
    uri: str,
    data: DataSection,
    *,
    bbox: tuple[float, float, float, float] | None = None,
    datetime: str | None = None,
    collections: Sequence[str] = (),
    limit: int | None = None,
) -> Source:
    """The source at a URI.

    Args:
        uri: A folder, `s3://BUCKET/PREFIX`, or a STAC API, catalog, collection or item.
        data: The use case's data section: patterns, lists and bands.
        bbox: West, south, east, north in EPSG:4326; only STAC sources can choose by it, as by the rest.
        datetime: A time or interval as STAC writes it.
        collections: Ids of STAC collections.
        limit: The most scenes to offer.

    Raises:
        UsageError: If there is no such source, its kind is unknown, or it cannot choose by what was asked.
    """
    parts = urlsplit(as_uri(uri))
    asked = {"--bbox": bbox, "--datetime": datetime, "--collections": collections or None, "--limit": limit}
    chosen = [flag for flag, value in asked.items() if value is not None]
    folder = _folder(uri, data) if parts.scheme == "file" and not parts.path.endswith(".json") else None
    is_stac = parts.scheme in {"http", "https"} or parts.path.endswith(".json")
    # A catalog beside pairs describes them; they hold the labels too.
    if is_stac or (folder is not None and _is_catalog(uri) and (chosen or not folder.fits())):
        from eo_data.sources.stac import StacSource

        return StacSource(uri, data, bbox=bbox, datetime=datetime, collections=collections, limit=limit)
    if chosen:
        raise UsageError(
            "only a STAC source can choose by this", where=chosen[0], fix="Leave it out, or give a STAC source"
        )
    if folder is not None:
        return folder
    if parts.scheme == "s3":
        from eo_data.sources.prefix import PrefixSource

        return PrefixSource(uri, data)
    raise UsageError(f"'{parts.scheme}://' is no kind of source", where=f"--source {uri}", fix=f"Give {_KINDS}")


def _folder(uri: str, data: DataSection) -> FolderSource:
    from eo_data.sources.folder import FolderSource

    return FolderSource(uri, data)


def _is_catalog(uri: str) -> bool:
    root = local_path(uri)
    return any((root / name).is_file() for name in ("catalog.json", "collection.json"))
