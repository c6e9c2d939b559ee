"""The sensor: native pixel sizes, noise, digital numbers, the edge of the swath."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.simulate.noise import FloatArray, Span
from eo_data.simulate.recipe import Recipe
from eo_data.simulate.spectra import BANDS

QUANTIFICATION: Final = 10000
"""Digital numbers per reflectance 1.0."""

OFFSET_NUMBERS: Final = 1000
"""What processing baseline 04.00 and later add to every digital number."""

STRIP_MULTIPLE: Final = 6
"""Strips start at multiples of this many rows, so that the coarsest native pixels are not cut."""


class Sensor:
    """The instrument and the swath of a scene.

    Args:
        recipe: What the scene shows.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._rng = recipe.rng(4)
        self._size = recipe.size
        self._added = OFFSET_NUMBERS if recipe.with_offset else 0
        self._edge: tuple[float, float, float] | None = None
        if recipe.collar:
            # the swath's edge runs along the orbit: 8 to 16 degrees off north
            angle = math.radians(float(self._rng.uniform(8, 16)))
            side = 1.0 if self._rng.random() < 0.5 else -1.0
            at = float(self._rng.uniform(0.12, 0.4)) * self._size
            middle = self._size / 2
            self._edge = (side * math.sin(angle), side * math.cos(angle), at - middle)

    def outside(self, rows: Span) -> NDArray[np.bool_]:
        """Where the swath has ended: pixels without data, `[h, w]`."""
        if self._edge is None:
            return np.zeros((rows[1] - rows[0], self._size), dtype=np.bool_)
        down, right, least = self._edge
        y = np.arange(*rows)[:, None] + 0.5 - self._size / 2
        x = np.arange(self._size)[None, :] + 0.5 - self._size / 2
        return np.asarray(y * down + x * right < least)

    def digital_numbers(self, reflectance: FloatArray, outside: NDArray[np.bool_]) -> NDArray[np.uint16]:
        """What the sensor makes of top-of-atmosphere reflectance `[13, h, w]`; 0 outside the swath.

        Call it once per strip, from top to bottom: the noise goes on from strip to strip.
        """
        numbers = np.empty(reflectance.shape, dtype=np.uint16)
        for index, band in enumerate(BANDS):
            seen = _native(reflectance[index], band.pixels)
            spread = np.float32(band.noise) * np.sqrt(1 + np.maximum(seen, 0) * 12)
            seen += spread * self._rng.standard_normal(seen.shape, dtype=np.float32)
            # 0 means no data, so the darkest measurement is 1
            counts = np.clip(np.rint(seen * QUANTIFICATION) + self._added, 1, 65535).astype(np.uint16)
            numbers[index] = _on_grid(counts, band.pixels, reflectance.shape[1:])
        numbers[:, outside] = 0
        return numbers


def _native(values: FloatArray, pixels: int) -> FloatArray:
    """Means over the band's native pixels; those at the far edges repeat the last rows and columns."""
    if pixels == 1:
        return values.copy()
    height, width = values.shape
    padded = np.pad(values, ((0, -height % pixels), (0, -width % pixels)), mode="edge")
    total = np.zeros((padded.shape[0] // pixels, padded.shape[1] // pixels), dtype=np.float32)
    for row in range(pixels):
        for column in range(pixels):
            total += padded[row::pixels, column::pixels]
    return total * np.float32(1 / pixels**2)


def _on_grid(numbers: NDArray[np.uint16], pixels: int, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Native pixels on the 10 m grid."""
    if pixels == 1:
        return numbers
    return numbers.repeat(pixels, axis=0).repeat(pixels, axis=1)[: shape[0], : shape[1]]
