"""What a scene's STAC item says of where, when and by what it was taken: the strata of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from eo_data.dataset import SceneRecord
from eo_data.errors import TemporaryFailure, TerraloopError
from eo_data.scene import Scene
from eo_data.store import Store

STRATA: Final = ("platform", "month", "region")

ABSENT: Final = "absent"
"""The stratum of scenes whose item does not say it; nothing is guessed."""

REGION_DEGREES: Final = 10
"""Side of a region, degrees."""


@dataclass(frozen=True)
class SceneFacts:
    """What strata a scene lies in; None where its item does not say.

    Attributes:
        platform: Satellite, such as `sentinel-2a`; else constellation, else instruments.
        month: `01` to `12`, UTC.
        region: The square of 10 by 10 degrees that holds the centre, by its south-western corner: `N40 W010`.
    """

    platform: str | None = None
    month: str | None = None
    region: str | None = None

    def stratum(self, kind: str) -> str:
        """Its stratum of a kind."""
        return asdict(self)[kind] or ABSENT


def facts_of(store: Store, scenes: Iterable[SceneRecord]) -> dict[str, SceneFacts]:
    """Facts by scene id, from each scene's item in the store; a scene that is not there any more says nothing.

    Raises:
        TemporaryFailure: If the store does not answer.
    """
    found = {}
    for record in scenes:
        try:
            found[record.id] = read_facts(Scene.load(store, record.uri).item)
        except TemporaryFailure:
            raise
        except TerraloopError:
            found[record.id] = SceneFacts()
    return found


def read_facts(item: Mapping[str, Any]) -> SceneFacts:
    """The facts of one STAC item."""
    properties = item.get("properties", {})
    instruments = "+".join(map(str, properties.get("instruments") or ())) or None
    platform = properties.get("platform") or properties.get("constellation") or instruments
    taken = properties.get("datetime")
    return SceneFacts(
        platform=str(platform).lower() if platform else None,
        month=str(taken)[5:7] if taken else None,
        region=_region(item.get("bbox")),
    )


def _region(bbox: Any) -> str | None:
    if not bbox or len(bbox) not in {4, 6}:
        return None
    west, south, east, north = (bbox[0], bbox[1], bbox[len(bbox) // 2], bbox[len(bbox) // 2 + 1])
    east = east + 360 if east < west else east  # across the antimeridian
    longitude = ((west + east) / 2 + 180) % 360 - 180
    low = [math.floor(value / REGION_DEGREES) * REGION_DEGREES for value in ((south + north) / 2, longitude)]
    return f"{'S' if low[0] < 0 else 'N'}{abs(low[0]):02d} {'W' if low[1] < 0 else 'E'}{abs(low[1]):03d}"
