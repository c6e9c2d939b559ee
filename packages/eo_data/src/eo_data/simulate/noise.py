"""Spatially correlated random fields: 1/f noise by FFT, evaluated on any rows of a scene.

Per-pixel arithmetic of the simulator keeps to + - * / and square roots, which are exact everywhere: single
precision exp, log, sine and BLAS differ between processors, and a seed should give the same pixels on all.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Span = tuple[int, int]

SUBPIXELS: Final = 3
"""Sub-pixels along a side of a pixel: class fractions are in ninths, and a majority never ties."""

_MARGIN: Final = 1.25
"""A field repeats after this many scene sizes, so that opposite edges of a scene do not match."""

_COARSE: Final = 1024
"""Largest side of the grid that holds a field's long waves; larger scenes are interpolated from it."""

_DETAIL: Final = 512
"""Side in pixels of the repeating texture that holds the short waves of larger scenes."""


class FractalField:
    """A periodic random field with a power-law spectrum, mean 0 and standard deviation 1 over its period.

    Up to 819 pixels a scene's field is one FFT. Larger scenes take their long waves from a grid of at most
    1024 x 1024 interpolated by cubic B-splines, and their short waves from a texture that repeats every 512
    pixels, so that memory does not grow with the scene.

    Args:
        rng: Source of the amplitudes and phases.
        size: Side of the scene, pixels.
        slope: Amplitude falls with frequency ** -slope; 1 is rough, 2 smooth.
        longest: Longest wave, pixels; longer ones are damped. 0 keeps all.
        shortest: Shortest wave, pixels; shorter ones are damped. 0 keeps all.
    """

    def __init__(
        self, rng: np.random.Generator, size: int, slope: float, *, longest: float = 0, shortest: float = 0
    ) -> None:
        period = max(16, int(size * _MARGIN))
        self._stride = -(-period // _COARSE)
        side = _fast_side(-(-period // self._stride))
        coarse = _spectral_field(rng, side, self._stride, slope, longest, shortest)
        deviation = coarse.std(dtype=np.float64)
        self._coarse = coarse * np.float32(1 / deviation)
        self._detail: FloatArray | None = None
        if self._stride > 1:
            # the texture goes on where the grid's waves end, at the same spectral density
            texture = _spectral_field(rng, _DETAIL, 1, slope, 2 * self._stride, shortest)
            self._detail = texture * np.float32(1 / deviation)

    @property
    def sample(self) -> FloatArray:
        """The field's long waves over one period."""
        return self._coarse

    def quantile(self, fraction: float) -> np.float32:
        """The value below which this fraction of the field lies."""
        return np.float32(np.quantile(self._coarse, fraction))

    def pixels(self, rows: Span, columns: Span) -> FloatArray:
        """The field at pixel centres of half-open rows and columns, which may lie outside the scene."""
        i, j = np.arange(*rows), np.arange(*columns)
        if self._stride == 1:
            side = len(self._coarse)
            return self._coarse[np.ix_(i % side, j % side)]
        result = _interpolated(self._coarse, i / self._stride, j / self._stride)
        if self._detail is not None:
            result += self._detail[np.ix_(i % _DETAIL, j % _DETAIL)]
        return result

    def subpixels(self, rows: Span, columns: Span) -> FloatArray:
        """The field at sub-pixel centres, interpolated linearly: three times as many rows and columns."""
        around = self.pixels((rows[0] - 1, rows[1] + 1), (columns[0] - 1, columns[1] + 1))
        halfway = _thirds(around)
        return np.ascontiguousarray(_thirds(np.ascontiguousarray(halfway.T)).T)


def pixel_sums(values: NDArray[np.generic]) -> FloatArray:
    """Sums over the 3 x 3 sub-pixels of every pixel, `[3 h, 3 w]` to float32 `[h, w]`."""
    height, width = values.shape[0] // SUBPIXELS, values.shape[1] // SUBPIXELS
    rows = values.reshape(height, SUBPIXELS, width * SUBPIXELS).sum(axis=1, dtype=np.float32)
    columns = rows.reshape(height, width, SUBPIXELS)
    return np.asarray(columns[..., 0] + columns[..., 1] + columns[..., 2], dtype=np.float32)


def hash_unit(words: NDArray[np.uint32]) -> FloatArray:
    """A uniform number in [0, 1) per 32-bit word: the same word, the same number."""
    mixed = words ^ (words >> np.uint32(16))
    mixed *= np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return (mixed >> np.uint32(8)).astype(np.float32) * np.float32(1 / 2**24)


def _spectral_field(
    rng: np.random.Generator, side: int, stride: int, slope: float, longest: float, shortest: float
) -> FloatArray:
    """A field on a grid with `stride` pixels between points; variance per wave as in the continuous spectrum."""
    along = np.fft.fftfreq(side) / stride
    across = np.fft.rfftfreq(side) / stride
    frequency = np.sqrt(along[:, None] ** 2 + across[None, :] ** 2)
    frequency[0, 0] = 1.0
    amplitude = frequency**-slope / (side * stride)
    if longest:
        amplitude /= 1 + (1 / (longest * frequency)) ** 4
    if shortest:
        amplitude /= 1 + (shortest * frequency) ** 4
    amplitude[0, 0] = 0.0
    waves = rng.standard_normal((side, len(across), 2), dtype=np.float32).view(np.complex64)[..., 0]
    waves *= (amplitude * side**2).astype(np.float32)
    return np.asarray(np.fft.irfft2(waves, s=(side, side)), dtype=np.float32)


def _interpolated(grid: FloatArray, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> FloatArray:
    """Cubic B-spline of a periodic grid at fractional rows and columns."""
    across = _spline_rows(grid, rows)
    return np.ascontiguousarray(_spline_rows(np.ascontiguousarray(across.T), columns).T)


def _spline_rows(grid: FloatArray, positions: NDArray[np.float64]) -> FloatArray:
    """Cubic B-spline along the first axis at fractional positions."""
    whole = np.floor(positions).astype(np.int64)
    t = (positions - whole).astype(np.float32)[:, None]
    cube = t * t * t
    weights = ((1 - t) * (1 - t) * (1 - t), 3 * cube - 6 * t * t + 4, 3 * (t + t * t - cube) + 1, cube)
    result = np.zeros((len(positions), grid.shape[1]), dtype=np.float32)
    for offset, weight in enumerate(weights, start=-1):
        result += grid[(whole + offset) % len(grid)] * (weight * np.float32(1 / 6))
    return result


def _thirds(values: FloatArray) -> FloatArray:
    """Linear interpolation along the first axis at -1/3, 0 and +1/3 of every inner row."""
    third = np.float32(1 / 3)
    inner = values[1:-1]
    result = np.empty((len(inner), SUBPIXELS, values.shape[1]), dtype=np.float32)
    result[:, 0] = inner + third * (values[:-2] - inner)
    result[:, 1] = inner
    result[:, 2] = inner + third * (values[2:] - inner)
    return result.reshape(-1, values.shape[1])


def _fast_side(least: int) -> int:
    """The next even number with no prime factor above 5, which FFTs like."""
    side = least + least % 2
    while True:
        rest = side
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return side
        side += 2
