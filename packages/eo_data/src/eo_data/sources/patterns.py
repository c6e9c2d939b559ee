"""Patterns of file names: what `images/{id}.tif` or `{id}/{id}_SR_{band}.TIF` finds in a listing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eo_data.sources.listing import Listing

_PARTS = re.compile(r"(\{id\}|\{band\}|\*)")


def matches(listing: Listing, pattern: str) -> Iterator[tuple[str, str | None, str]]:
    """Id, band (None where the pattern has none) and name of each file that a pattern finds, sorted by name."""
    parser = _parser(pattern)
    for name in listing.find(_PARTS.sub("*", pattern)):
        match = parser.fullmatch(name)
        if match:  # `{id}` may stand several times, and stands for the same text each time
            yield match["id"], match.groupdict().get("band"), name


def _parser(pattern: str) -> re.Pattern[str]:
    seen: set[str] = set()
    parsed = ""
    for part in _PARTS.split(pattern):
        if part == "*":
            parsed += "[^/]*"
        elif part in {"{id}", "{band}"}:
            group = part[1:-1]
            # An id may hold what a band may not: `{id}_{band}.tif` takes the last `_` for the border.
            parsed += f"(?P={group})" if group in seen else f"(?P<{group}>[^/]*)"
            seen.add(group)
        else:
            parsed += re.escape(part)
    return re.compile(parsed)


def filled(pattern: str, scene_id: str) -> str:
    """A pattern with the scene's id in it."""
    return pattern.replace("{id}", scene_id)
