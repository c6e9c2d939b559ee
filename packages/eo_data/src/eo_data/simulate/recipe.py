"""What a simulated scene shows: drawn from the seed and the scene's number alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

import numpy as np

from eo_data.simulate.places import Place, place


class Water(StrEnum):
    """The water of a scene."""

    NONE = "no water"
    STREAM = "a narrow river"
    RIVER = "a wide river"
    BRAIDED = "a braided river"
    PONDS = "ponds"
    LAKES = "lakes"
    RESERVOIR = "a reservoir"
    COAST = "a coast"
    WETLAND = "wetland and flooded fields"


class Sky(StrEnum):
    """The clouds of a scene."""

    CLEAR = "clear sky"
    CIRRUS = "thin cirrus"
    SCATTERED = "scattered clouds"
    BROKEN = "broken clouds"
    OVERCAST = "mostly cloudy"


class Climate(StrEnum):
    """What grows around."""

    TROPICAL = "tropical"
    ARID = "arid"
    TEMPERATE = "temperate"
    BOREAL = "boreal"
    ALPINE = "alpine"


# Every sixteen scenes are dealt these decks, each shuffled on its own: the shares hold for any sixteen in a row
# from a multiple of sixteen, and a scene's cards do not depend on how many scenes there are.
_WATERS: Final = (
    (Water.NONE,) * 3 + (Water.STREAM,) * 2 + (Water.RIVER,) * 3 + (Water.BRAIDED,) + (Water.PONDS,) * 2
    + (Water.LAKES,) * 2 + (Water.RESERVOIR,) + (Water.COAST,) + (Water.WETLAND,)
)  # fmt: skip
_SKIES: Final = (
    (Sky.CLEAR,) * 8 + (Sky.CIRRUS,) + (Sky.SCATTERED,) * 4 + (Sky.BROKEN,) * 2 + (Sky.OVERCAST,)
)  # fmt: skip
_COLLARS: Final = (True,) * 2 + (False,) * 14
_OFFSETS: Final = (True,) * 8 + (False,) * 8

Card = TypeVar("Card")


@dataclass(frozen=True)
class Sun:
    """The sun over a scene.

    Attributes:
        zenith: Angle from the vertical, radians.
        azimuth: Clockwise from north, radians.
    """

    zenith: float
    azimuth: float


@dataclass(frozen=True)
class Recipe:
    """What a scene shows.

    Attributes:
        number: The scene's number in its set.
        size: Height and width, pixels.
        seed: The set's seed.
        place: Where it lies.
        datetime: When it was taken, UTC; 10:30 local solar time as Sentinel-2 passes.
        sun: The sun at that time.
        summer: 1 in the height of the summer, 0 in the depth of the winter.
        climate: What grows around.
        water: The scene's water.
        sky: The scene's clouds.
        snow: Fraction of the land under snow.
        wet: Whether it has rained lately: roads are wet, soils moist.
        collar: Whether the edge of the swath crosses the scene.
        with_offset: Whether digital numbers carry the 1000 of processing baseline 04.00 and later.
    """

    number: int
    size: int
    seed: int
    place: Place
    datetime: datetime
    sun: Sun
    summer: float
    climate: Climate
    water: Water
    sky: Sky
    snow: float
    wet: bool
    collar: bool
    with_offset: bool

    @property
    def id(self) -> str:
        """The scene's id, `simulated-s0-0007`."""
        return scene_id(self.seed, self.number)

    @property
    def baseline(self) -> str:
        """The Sentinel-2 processing baseline whose convention the digital numbers follow."""
        return "04.00" if self.with_offset else "02.09"

    @property
    def offset(self) -> float:
        """Reflectance = DN * 0.0001 + offset."""
        return -0.1 if self.with_offset else 0.0

    def rng(self, part: int) -> np.random.Generator:
        """The generator of one part of the scene; parts do not disturb each other's draws."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.number, part]))


def scene_id(seed: int, number: int) -> str:
    """The id of scene `number` of the set with this seed, `simulated-s0-0007`."""
    return f"simulated-s{seed}-{number:04d}"


def draw_recipe(number: int, size: int, seed: int) -> Recipe:
    """The recipe of scene `number`.

    Raises:
        UsageError: If there is no room for a scene of that number and size.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, number, 0]))
    where = place(number, size, seed)
    with_offset = _dealt(_OFFSETS, number, seed, 3)
    day = int(rng.integers(365))
    if _sun(where.latitude, day).zenith > math.radians(76):
        day = (day + 182) % 365  # no scenes are taken in the polar night
    # 04.00 came into force on 2022-01-25; 02.09 was in force in all of 2020
    start = datetime(2022 if with_offset else 2020, 2, 1, 10, 30, tzinfo=UTC)
    noon = timedelta(hours=where.longitude / 15, seconds=int(rng.integers(-900, 900)))
    taken = (start + timedelta(days=day) - noon).replace(microsecond=0)
    summer = _summer(where.latitude, day + 31)
    climate = _climate(where.latitude, rng)
    return Recipe(
        number=number,
        size=size,
        seed=seed,
        place=where,
        datetime=taken,
        sun=_sun(where.latitude, day),
        summer=summer,
        climate=climate,
        water=_dealt(_WATERS, number, seed, 0),
        sky=_dealt(_SKIES, number, seed, 1),
        snow=_snow(climate, summer, rng),
        wet=bool(rng.random() < 0.3),
        collar=_dealt(_COLLARS, number, seed, 2),
        with_offset=with_offset,
    )


def _dealt(deck: tuple[Card, ...], number: int, seed: int, which: int) -> Card:
    """The card of a deck that this scene gets."""
    hand, position = divmod(number, len(deck))
    order = np.random.default_rng(np.random.SeedSequence([seed, hand, which, 16])).permutation(len(deck))
    return deck[int(order[position])]


def _summer(latitude: float, day: int) -> float:
    """1 at midsummer, 0 at midwinter; `day` counts from 1 January."""
    season = 0.5 - 0.5 * math.cos(2 * math.pi * (day + 10) / 365)
    return season if latitude >= 0 else 1 - season


def _sun(latitude: float, day: int) -> Sun:
    """The sun at 10:30 local solar time, `day` days after 1 February."""
    declination = math.radians(-23.44) * math.cos(2 * math.pi * (day + 41) / 365)
    phi, hour = math.radians(latitude), math.radians(-22.5)
    up = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(hour)
    east = -math.cos(declination) * math.sin(hour)
    north = math.cos(phi) * math.sin(declination) - math.sin(phi) * math.cos(declination) * math.cos(hour)
    return Sun(math.acos(min(1.0, up)), math.atan2(east, north))


def _climate(latitude: float, rng: np.random.Generator) -> Climate:
    """A climate that the latitude allows."""
    away, luck = abs(latitude), rng.random()
    if away < 15:
        return Climate.TROPICAL if luck < 0.85 else Climate.ARID
    if away < 33:
        return Climate.ARID if luck < 0.55 else Climate.TROPICAL if luck < 0.75 else Climate.TEMPERATE
    if away < 52:
        return Climate.TEMPERATE if luck < 0.75 else Climate.ALPINE if luck < 0.9 else Climate.ARID
    return Climate.BOREAL if luck < 0.7 else Climate.TEMPERATE if luck < 0.9 else Climate.ALPINE


def _snow(climate: Climate, summer: float, rng: np.random.Generator) -> float:
    """Fraction of the land under snow."""
    chance, most = {
        Climate.BOREAL: (0.75 if summer < 0.3 else 0.0, 0.8),
        Climate.TEMPERATE: (0.2 if summer < 0.2 else 0.0, 0.6),
        Climate.ALPINE: (0.8 if summer < 0.45 else 0.4, 0.7 - 0.5 * summer),
    }.get(climate, (0.0, 0.0))
    return float(rng.uniform(0.05, most)) if rng.random() < chance else 0.0
