"""Band names: one band has several (B2, B02, blue), and a file's bands are found by them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from eo_data.errors import DataRefused

_NUMBERED = re.compile(r"^b0*(\d+a?)$")


def band_key(name: str) -> str:
    """The form in which band names are compared: lower case, no blanks, no leading zeros (`B02` -> `b2`)."""
    plain = re.sub(r"[\s_-]+", "", name.strip().lower())
    numbered = _NUMBERED.match(plain)
    return f"b{numbered.group(1)}" if numbered else plain


class Band(BaseModel):
    """A band of a sensor: its name, its STAC `eo:common_name`, what else files call it, and what its values are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"\S")
    common_name: str | None = None
    aliases: tuple[str, ...] = ()
    kind: Literal["reflectance", "categorical"] = "reflectance"

    @property
    def keys(self) -> frozenset[str]:
        """Every name under which a file may hold this band."""
        return frozenset(band_key(n) for n in (self.name, self.common_name, *self.aliases) if n)


def band_indexes(
    descriptions: Sequence[str | None], full: Sequence[Band], wanted: Sequence[Band], where: str = "image"
) -> tuple[int, ...]:
    """Where the wanted bands stand in a file, as 1-based band numbers in the order of `wanted`.

    Described bands are found by name, and a described band that nobody names is ignored. A file without
    any description is read by position where its count is that of the full list's reflectance bands or of the
    wanted bands.

    Args:
        descriptions: A description per band of the file, None where it has none.
        full: The full list of the use case.
        wanted: The bands to find.
        where: What the file is called in a message.

    Raises:
        DataRefused: Naming the missing or doubled band, or the count that fits neither list.
    """
    described = [d for d in descriptions if d and d.strip()]
    if not described:
        names = [band.name for band in full if band.kind == "reflectance"]
        if len(descriptions) == len(names):
            return tuple(names.index(band.name) + 1 for band in wanted)
        if len(descriptions) == len(wanted):
            return tuple(range(1, len(wanted) + 1))
        raise DataRefused(
            f"{len(descriptions)} bands without descriptions, but {len(names)} or {len(wanted)} are needed",
            where=where,
            fix=f"Describe the bands ({', '.join(band.name for band in wanted)}) or give the full list",
        )
    found: dict[str, list[int]] = {}
    for index, description in enumerate(descriptions, start=1):
        if description:
            found.setdefault(band_key(description), []).append(index)
    indexes = []
    for band in wanted:
        hits = sorted({index for key in band.keys for index in found.get(key, [])})
        if not hits:
            raise DataRefused(
                f"band {band.name} is missing (found: {', '.join(described)})",
                where=where,
                fix="Add it or describe the bands by their names",
            )
        if len(hits) > 1:
            raise DataRefused(f"band {band.name} stands {len(hits)} times", where=where, fix="Keep one of them")
        indexes.append(hits[0])
    return tuple(indexes)
