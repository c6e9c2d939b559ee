"""Surface reflectance of the materials that simulated scenes are made of, in Sentinel-2's 13 bands.

The values are rounded from what spectral libraries and textbooks show for such surfaces. They are plausible,
not measured, and nothing is fitted to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SensorBand:
    """A band of the simulated sensor.

    Attributes:
        name: The sensor's own name, `B02`.
        common_name: STAC `eo:common_name`.
        wavelength: Centre, micrometres.
        width: Full width at half maximum, micrometres.
        pixels: Native pixel size in pixels of the 10 m grid (1, 2 or 6).
        noise: Noise of a dark native pixel, standard deviation in reflectance.
    """

    name: str
    common_name: str
    wavelength: float
    width: float
    pixels: int
    noise: float


BANDS: Final = (
    SensorBand("B01", "coastal", 0.443, 0.021, 6, 0.0006),
    SensorBand("B02", "blue", 0.490, 0.066, 1, 0.0011),
    SensorBand("B03", "green", 0.560, 0.036, 1, 0.0010),
    SensorBand("B04", "red", 0.665, 0.031, 1, 0.0010),
    SensorBand("B05", "rededge071", 0.705, 0.015, 2, 0.0012),
    SensorBand("B06", "rededge075", 0.740, 0.015, 2, 0.0012),
    SensorBand("B07", "rededge078", 0.783, 0.020, 2, 0.0013),
    SensorBand("B08", "nir", 0.842, 0.106, 1, 0.0013),
    SensorBand("B8A", "nir08", 0.865, 0.021, 2, 0.0012),
    SensorBand("B09", "nir09", 0.945, 0.020, 6, 0.0010),
    SensorBand("B10", "cirrus", 1.375, 0.031, 6, 0.0002),
    SensorBand("B11", "swir16", 1.610, 0.091, 2, 0.0010),
    SensorBand("B12", "swir22", 2.190, 0.175, 2, 0.0010),
)
"""The 13 bands of Sentinel-2 L1C in the order of the files."""


class Material(IntEnum):
    """What a sub-pixel is covered with; the water materials come first."""

    CLEAR_WATER = 0
    TURBID_WATER = 1
    GREEN_WATER = 2
    SHALLOW_WATER = 3
    VEGETATED_WATER = 4
    CROP = 5
    BROADLEAF = 6
    CONIFER = 7
    GRASS = 8
    DRY_GRASS = 9
    SHRUB = 10
    DRY_SOIL = 11
    MOIST_SOIL = 12
    RED_SOIL = 13
    SAND = 14
    DARK_ROCK = 15
    BRIGHT_ROCK = 16
    BRIGHT_ROOF = 17
    DARK_ROOF = 18
    RED_ROOF = 19
    ASPHALT = 20
    WET_ASPHALT = 21
    SHADE = 22
    SNOW = 23


WATER_MATERIALS: Final = 5
"""Materials below this number are water."""

_SURFACE: Final[dict[Material, tuple[float, ...]]] = {
    #                            B01   B02   B03   B04   B05   B06   B07   B08   B8A   B09   B10   B11   B12
    Material.CLEAR_WATER:     (.024, .026, .022, .011, .008, .006, .005, .005, .004, .004, .003, .003, .002),
    Material.TURBID_WATER:    (.055, .070, .108, .118, .108, .062, .060, .050, .046, .030, .012, .016, .010),
    Material.GREEN_WATER:     (.026, .030, .062, .034, .054, .030, .031, .027, .024, .018, .008, .010, .007),
    Material.SHALLOW_WATER:   (.046, .054, .082, .080, .076, .058, .058, .054, .048, .038, .018, .026, .018),
    Material.VEGETATED_WATER: (.025, .030, .054, .037, .068, .135, .160, .165, .172, .145, .060, .085, .045),
    Material.CROP:            (.028, .034, .070, .036, .105, .320, .410, .440, .455, .420, .200, .200, .100),
    Material.BROADLEAF:       (.018, .022, .045, .026, .072, .245, .315, .340, .350, .325, .160, .160, .070),
    Material.CONIFER:         (.014, .017, .030, .021, .046, .135, .170, .185, .195, .180, .080, .090, .040),
    Material.GRASS:           (.030, .038, .075, .055, .115, .240, .300, .320, .335, .310, .200, .240, .130),
    Material.DRY_GRASS:       (.055, .070, .105, .125, .155, .210, .235, .250, .270, .260, .240, .310, .215),
    Material.SHRUB:           (.038, .046, .070, .075, .105, .160, .185, .200, .210, .200, .170, .220, .150),
    Material.DRY_SOIL:        (.090, .115, .165, .225, .255, .275, .295, .315, .335, .335, .340, .415, .360),
    Material.MOIST_SOIL:      (.048, .058, .082, .108, .124, .136, .147, .158, .167, .165, .130, .190, .140),
    Material.RED_SOIL:        (.045, .055, .090, .185, .215, .230, .245, .255, .270, .275, .280, .350, .300),
    Material.SAND:            (.145, .185, .270, .365, .395, .415, .430, .445, .460, .460, .450, .560, .510),
    Material.DARK_ROCK:       (.055, .062, .076, .092, .100, .106, .112, .117, .121, .121, .122, .148, .136),
    Material.BRIGHT_ROCK:     (.120, .140, .180, .215, .230, .240, .250, .260, .270, .270, .260, .310, .280),
    Material.BRIGHT_ROOF:     (.240, .270, .300, .320, .325, .330, .335, .340, .345, .340, .310, .340, .310),
    Material.DARK_ROOF:       (.070, .076, .084, .090, .096, .104, .110, .116, .122, .122, .120, .145, .135),
    Material.RED_ROOF:        (.060, .070, .095, .175, .200, .215, .230, .240, .255, .260, .270, .310, .280),
    Material.ASPHALT:         (.074, .082, .093, .103, .109, .116, .122, .127, .132, .132, .128, .145, .135),
    Material.WET_ASPHALT:     (.052, .055, .056, .054, .053, .052, .052, .051, .050, .046, .030, .044, .036),
    Material.SHADE:           (.026, .027, .025, .023, .026, .030, .033, .034, .035, .032, .020, .026, .020),
    Material.SNOW:            (.900, .920, .900, .880, .870, .860, .850, .830, .800, .700, .100, .110, .080),
}  # fmt: skip

SURFACE: Final[NDArray[np.float32]] = np.array([_SURFACE[material] for material in Material], dtype=np.float32)
"""Surface reflectance `[material, band]`, float32."""

CLOUD: Final[NDArray[np.float32]] = np.array(
    (0.66, 0.65, 0.64, 0.65, 0.66, 0.67, 0.68, 0.68, 0.68, 0.42, 0.03, 0.50, 0.36), dtype=np.float32
)
"""Top-of-atmosphere reflectance of a thick water cloud `[band]`."""

CIRRUS: Final[NDArray[np.float32]] = np.array(
    (0.46, 0.45, 0.44, 0.44, 0.44, 0.44, 0.44, 0.43, 0.43, 0.30, 0.24, 0.30, 0.22), dtype=np.float32
)
"""Top-of-atmosphere reflectance of a thick ice cloud `[band]`: bright in B10, above the water vapour."""
