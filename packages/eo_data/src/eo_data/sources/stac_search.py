"""What is looked for among STAC items: an area, a time, collections, and at most how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eo_data.errors import UsageError
from eo_data.sources.area import Area, require_area


@dataclass(frozen=True)
class StacSearch:
    """A search, the same for an API, which does it itself, and for a static catalog, which is filtered here.

    Attributes:
        bbox: West, south, east, north in degrees; None is everywhere.
        interval: Two RFC 3339 times, or `..` for an open end, with a slash between; None is always.
        collections: Their ids; none is all.
        limit: The most items; None is no limit.
    """

    bbox: Area | None = None
    interval: str | None = None
    collections: tuple[str, ...] = ()
    limit: int | None = None

    def __str__(self) -> str:
        """The search for people."""
        said = {
            "bbox": self.bbox and " ".join(f"{value:g}" for value in self.bbox),
            "datetime": self.interval,
            "collections": ", ".join(self.collections),
        }
        return "; ".join(f"{name} {value}" for name, value in said.items() if value) or "everything"

    def matches(self, item: dict[str, Any]) -> bool:
        """Whether an item is looked for; one that tells no place is, since its rasters will tell."""
        if self.collections and item.get("collection") not in self.collections:
            return False
        if self.interval is not None and not _in_time(item["properties"], self.interval):
            return False
        box = item.get("bbox")
        return self.bbox is None or not isinstance(box, list) or len(box) not in {4, 6} or _overlap(self.bbox, box)


def stac_search(
    bbox: Area | None, datetime: str | None, collections: Sequence[str] = (), limit: int | None = None
) -> StacSearch:
    """A search out of what the flags say.

    Args:
        bbox: West, south, east, north in degrees.
        datetime: A time, a date, a month, a year, or two of them with a slash between (`2024-06/2024-08-15`).
        collections: Ids of collections.
        limit: The most items.

    Raises:
        UsageError: If the area, the time or the limit is impossible.
    """
    if bbox is not None:
        require_area(bbox, "--bbox")
    if limit is not None and limit < 1:
        raise UsageError(f"{limit} scenes is no limit", where="--limit", fix="Give a number from 1 on")
    return StacSearch(bbox, _interval(datetime) if datetime else None, tuple(collections), limit)


def _interval(text: str) -> str:
    """A time as pystac-client understands it, always with both ends."""
    from pystac_client.item_search import ItemSearch

    try:
        said = str(ItemSearch("http://none.invalid", datetime=text).get_parameters()["datetime"])
        begin, _, end = said.partition("/")
        for part in (begin, end or begin):
            if part != "..":
                _time(part)
    except Exception as error:  # whatever the parser raises: it is no time
        raise UsageError(
            f"'{text}' is no time", where="--datetime", fix="Give a date such as 2024-06-30 or two: 2024-06/2024-08-15"
        ) from error
    return f"{begin}/{end or begin}"


def _time(text: str) -> datetime:
    from pystac.utils import str_to_datetime

    found = str_to_datetime(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _in_time(properties: dict[str, Any], interval: str) -> bool:
    """Whether an item's time, or its range of times, and an interval share a moment."""
    begin, end = interval.split("/")
    moment = properties.get("datetime")
    first = _time(str(properties.get("start_datetime") or moment))
    last = _time(str(properties.get("end_datetime") or moment))
    return (begin == ".." or last >= _time(begin)) and (end == ".." or first <= _time(end))


def _overlap(area: Area, box: list[float]) -> bool:
    """Whether two boxes share a point; either may cross the 180th meridian, west above east."""
    west, south, east, north = box[0], box[1], box[len(box) // 2], box[len(box) // 2 + 1]
    if south > area[3] or north < area[1]:
        return False
    return any(w <= e2 and w2 <= e for w, e in _spans(area[0], area[2]) for w2, e2 in _spans(west, east))


def _spans(west: float, east: float) -> list[tuple[float, float]]:
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
