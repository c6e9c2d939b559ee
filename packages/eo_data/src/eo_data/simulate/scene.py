"""One simulated scene: its recipe made into digital numbers and labels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from eo_data.errors import UsageError
from eo_data.simulate.atmosphere import OPAQUE, Atmosphere
from eo_data.simulate.ground import GroundModel
from eo_data.simulate.noise import FractalField
from eo_data.simulate.places import MAX_SIZE
from eo_data.simulate.recipe import Recipe, draw_recipe
from eo_data.simulate.sensor import STRIP_MULTIPLE, Sensor
from eo_data.simulate.spectra import BANDS

LAND: Final = 0
WATER: Final = 1
IGNORE: Final = 255
"""Label of a pixel under opaque cloud or without data."""

_STRIP_PIXELS: Final = 2**19
"""Pixels that are worked on at once: what bounds the memory of large scenes."""


@dataclass(frozen=True, eq=False)
class SimulatedScene:
    """A simulated scene.

    Attributes:
        id: Such as `simulated-s0-0007`.
        dn: Digital numbers uint16 `[13, H, W]`, bands as `spectra.BANDS`; 0 is no data.
        label: uint8 `[H, W]`: 0 land, 1 water (more than half of the pixel), 255 ignore.
        geobox: The grid: UTM, 10 m.
        datetime: When it was taken, UTC.
        offset: Reflectance = dn * 0.0001 + offset.
        cloud_cover: Percent of the pixels with data that are under opaque cloud.
        baseline: The Sentinel-2 processing baseline whose convention `dn` follows.
        title: One line for people.
    """

    id: str
    dn: NDArray[np.uint16]
    label: NDArray[np.uint8]
    geobox: GeoBox
    datetime: datetime
    offset: float
    cloud_cover: float
    baseline: str
    title: str


def simulate_scene(number: int, size: int, seed: int) -> SimulatedScene:
    """Simulate scene `number` of a set; the same arguments give the same pixels.

    The memory needed is that of the result (27 bytes a pixel: 3.3 GB at 10980 x 10980) and about 1 GB.

    Args:
        number: The scene's number, from 0.
        size: Height and width, 1 to 10980 pixels of 10 m.
        seed: The set's seed, from 0.

    Raises:
        UsageError: If an argument is out of range or there is no room for a scene of that number and size.
    """
    check_arguments(number + 1, size, seed)
    return _render(draw_recipe(number, size, seed))


def check_arguments(scenes: int, size: int, seed: int) -> None:
    """Refuse impossible arguments.

    Raises:
        UsageError: Naming the flag.
    """
    if scenes < 1:
        raise UsageError(f"{scenes} scenes cannot be simulated", where="--scenes", fix="Ask for one or more")
    if not 1 <= size <= MAX_SIZE:
        raise UsageError(f"a size of {size} pixels", where="--size", fix=f"Choose 1 to {MAX_SIZE}")
    if not 0 <= seed < 2**32:
        raise UsageError(f"a seed of {seed}", where="--seed", fix="Choose a whole number from 0 to 4294967295")


def _render(recipe: Recipe) -> SimulatedScene:
    """The pixels of a recipe, strip by strip."""
    size = recipe.size
    elevation = FractalField(recipe.rng(6), size, 2.0, longest=max(140.0, size / 1.5))
    ground_model = GroundModel(recipe, elevation)
    atmosphere = Atmosphere(recipe, elevation)
    sensor = Sensor(recipe)
    numbers = np.empty((len(BANDS), size, size), dtype=np.uint16)
    label = np.empty((size, size), dtype=np.uint8)
    clouded = 0
    height = max(1, _STRIP_PIXELS // (size * STRIP_MULTIPLE)) * STRIP_MULTIPLE
    for top in range(0, size, height):
        rows = (top, min(top + height, size))
        ground = ground_model.draw(rows)
        clouds = atmosphere.clouds(rows)
        surface = ground_model.reflect(ground, rows, atmosphere.illumination(rows))
        outside = sensor.outside(rows)
        part = slice(*rows)
        numbers[:, part] = sensor.digital_numbers(atmosphere.to_the_top(surface, rows, clouds), outside)
        label[part] = np.where(ground.water > np.float32(0.5), WATER, LAND)
        hidden = (clouds.opacity > OPAQUE) & ~outside
        label[part][hidden | outside] = IGNORE
        clouded += int(hidden.sum())
    seen = int((numbers[0] != 0).sum())
    return SimulatedScene(
        id=recipe.id,
        dn=numbers,
        label=label,
        geobox=recipe.place.geobox,
        datetime=recipe.datetime,
        offset=recipe.offset,
        cloud_cover=round(100 * clouded / max(1, seen), 2),
        baseline=recipe.baseline,
        title=f"Simulated scene {recipe.number} of seed {recipe.seed}: {recipe.water}, {recipe.climate}, {recipe.sky}",
    )
