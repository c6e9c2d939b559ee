"""From surface to top-of-atmosphere reflectance: sun and relief, air and haze, clouds and their shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from eo_data.simulate.noise import FloatArray, FractalField, Span
from eo_data.simulate.recipe import Recipe, Sky
from eo_data.simulate.spectra import BANDS, CIRRUS, CLOUD

OPAQUE: Final = 0.5
"""Cloud opacity from which the ground is not labelled."""

_WAVELENGTH: Final = np.array([band.wavelength for band in BANDS])
_RAYLEIGH: Final = 0.008735 * _WAVELENGTH**-4.08  # optical depth of air at sea level
_GASES: Final = np.array([0.99, 0.98, 0.92, 0.94, 0.97, 0.96, 0.98, 0.97, 0.99, 0.22, 0.004, 0.97, 0.94])
"""What ozone, oxygen and a mean column of water vapour let through, there and back."""

_COVER: Final = {Sky.SCATTERED: (0.03, 0.18), Sky.BROKEN: (0.25, 0.5), Sky.OVERCAST: (0.72, 0.9)}


@dataclass(frozen=True, eq=False)
class Clouds:
    """The clouds over a strip.

    Attributes:
        opacity: Of water clouds, 0 to 1, `[h, w]`.
        cirrus: Opacity of ice clouds, `[h, w]`.
        shadow: Share of direct sunlight that clouds keep from the ground, `[h, w]`.
        brightness: Of the clouds' tops, around 1, `[h, w]`.
    """

    opacity: FloatArray
    cirrus: FloatArray
    shadow: FloatArray
    brightness: FloatArray


class Atmosphere:
    """Air, haze, clouds and sunlight of a scene.

    Args:
        recipe: What the scene shows.
        elevation: The scene's relief, for shading.
    """

    def __init__(self, recipe: Recipe, elevation: FractalField) -> None:
        rng = recipe.rng(3)
        self._size = recipe.size
        self._elevation = elevation
        self._sun = recipe.sun
        self._relief = float(rng.uniform(0.02, 0.14)) * (2.5 if recipe.climate == "alpine" else 1.0)
        haze = float(np.clip(0.05 * math.exp(rng.normal(0, 0.7)), 0.012, 0.25))
        air = 1 / math.cos(recipe.sun.zenith) + 1
        aerosol = haze * _WAVELENGTH**-1.3
        scattered = (0.26 * _RAYLEIGH + 0.075 * aerosol) * air / 2
        self._path = (scattered / (1 + scattered) * np.where(_GASES < 0.1, 0.01, np.sqrt(_GASES))).astype(np.float32)
        self._path[10] += np.float32(rng.uniform(0.0008, 0.004))
        through = 1 / (1 + (0.5 * _RAYLEIGH + 0.17 * aerosol) * air)
        vapour = float(rng.uniform(0.6, 1.6))
        self._through = (through * np.where(_GASES < 0.5, _GASES**vapour, _GASES)).astype(np.float32)
        self._haze_field = FractalField(rng, recipe.size, 2.0)
        self._haze_share = np.float32(rng.uniform(0.02, 0.1))
        # skylight reaches shadows, and there is more of it in the blue
        self._shadow_depth = (0.82 - 0.35 * np.clip(_RAYLEIGH * 2.5, 0, 1) - 0.6 * haze).astype(np.float32)
        self._cover_clouds(rng, recipe)

    def _cover_clouds(self, rng: np.random.Generator, recipe: Recipe) -> None:
        """Where and how high the clouds are."""
        self._clouds: FractalField | None = None
        self._cirrus: FractalField | None = None
        if recipe.sky in _COVER:
            longest = {Sky.SCATTERED: 90.0, Sky.BROKEN: 150.0}.get(recipe.sky, 0.0)
            self._clouds = FractalField(rng, recipe.size, float(rng.uniform(1.9, 2.3)), longest=longest)
            self._bumps = FractalField(rng, recipe.size, 1.3, longest=20)
            self._threshold = self._clouds.quantile(1 - float(rng.uniform(*_COVER[recipe.sky])))
            self._density = np.float32(rng.uniform(1.5, 5.0))
            height = float(rng.uniform(300, 1500)) * math.tan(recipe.sun.zenith) / 10
            self._shift = tuple(
                round(height * part) for part in (math.cos(recipe.sun.azimuth), -math.sin(recipe.sun.azimuth))
            )
        if recipe.sky is Sky.CIRRUS or (recipe.sky is Sky.OVERCAST and rng.random() < 0.5):
            self._cirrus = FractalField(rng, recipe.size, 1.7, longest=max(120.0, recipe.size / 2))
            self._cirrus_share = np.float32(rng.uniform(0.05, 0.16))

    def clouds(self, rows: Span) -> Clouds:
        """The clouds over a strip, and their shadows."""
        columns = (0, self._size)
        shape = (rows[1] - rows[0], self._size)
        opacity, cirrus, shadow = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        brightness = np.ones(shape, dtype=np.float32)
        if self._cirrus is not None:
            cirrus = np.clip(self._cirrus.pixels(rows, columns) + np.float32(0.6), 0, 2) * self._cirrus_share
        if self._clouds is not None:
            opacity = self._opacity(rows, columns)
            down, right = self._shift
            # what is above the pixel towards the sun shades it
            shadow = self._opacity((rows[0] - down, rows[1] - down), (columns[0] - right, columns[1] - right))
            thick = np.clip(self._clouds.pixels(rows, columns) - self._threshold, 0, 2)
            brightness = 0.8 + 0.12 * thick + 0.05 * self._bumps.pixels(rows, columns)
        return Clouds(opacity, cirrus, shadow, brightness)

    def _opacity(self, rows: Span, columns: Span) -> FloatArray:
        """Opacity of the water clouds; the field goes on outside the scene, so clouds there cast shadows too."""
        if self._clouds is None:
            return np.zeros((rows[1] - rows[0], columns[1] - columns[0]), dtype=np.float32)
        above = self._clouds.pixels(rows, columns) + np.float32(0.12) * self._bumps.pixels(rows, columns)
        depth = np.maximum(above - self._threshold, 0) * self._density
        depth *= 1 + depth
        return depth / (1 + depth)

    def illumination(self, rows: Span) -> FloatArray:
        """Sunlight on the relief relative to level ground, `[h, w]`."""
        height = self._elevation.pixels((rows[0] - 1, rows[1] + 1), (-1, self._size + 1))
        south = (height[2:, 1:-1] - height[:-2, 1:-1]) * np.float32(self._relief * 10)
        east = (height[1:-1, 2:] - height[1:-1, :-2]) * np.float32(self._relief * 10)
        tilt = np.float32(math.tan(self._sun.zenith))
        north_sun, east_sun = math.cos(self._sun.azimuth), math.sin(self._sun.azimuth)
        direct = 1 + tilt * (south * np.float32(north_sun) - east * np.float32(east_sun))
        direct /= np.sqrt(1 + south * south + east * east)
        return 0.15 + 0.85 * np.clip(direct, 0, 2)

    def to_the_top(self, surface: FloatArray, rows: Span, clouds: Clouds) -> FloatArray:
        """Top-of-atmosphere reflectance from sunlit surface reflectance, both `[13, h, w]`; changed in place."""
        haze = 1 + self._haze_share * self._haze_field.pixels(rows, (0, self._size))
        for band in range(len(BANDS)):
            light = 1 - self._shadow_depth[band] * clouds.shadow
            surface[band] *= light * self._through[band]
            surface[band] += haze * self._path[band]
            surface[band] *= 1 - clouds.cirrus
            surface[band] += CIRRUS[band] * clouds.cirrus
            surface[band] *= 1 - clouds.opacity
            surface[band] += CLOUD[band] * clouds.brightness * clouds.opacity
        return surface
