"""The band that is near zero over every clear pixel, and how low it goes in a raster (`offset_by_values`).

Which pixels are looked at follows from the raster's size alone, never from its blocks: the same pixels give the
same answer, in whatever file they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.bands import band_indexes
from eo_data.errors import DataRefused
from eo_data.usecase import DataSection

LOW: Final = 0.02
WHOLE: Final = 1 << 18
"""A raster of so many pixels is measured whole."""
WINDOW: Final = 64
ACROSS: Final = 3
"""A greater one on 3 x 3 windows of 64 pixels at multiples of 64: each lies in one block of any usual tiling."""


def dark_band_index(names: Sequence[str | None], data: DataSection) -> int | None:
    """Which band of a file, from 1, is the use case's dark band; None where there is none of it."""
    band = data.dark_band
    if band is None or (not any(names) and len(names) != len(data.bands)):
        return None
    try:
        return band_indexes(names, data.bands, (band,))[0]
    except DataRefused:
        return None


def with_data(band: NDArray[Any], nodata: float | None, shown: NDArray[np.bool_] | None = None) -> NDArray[Any]:
    """The values of a band `[h, w]` that are data, in one dimension; a mask may hide some."""
    keep = np.isfinite(band) if shown is None else np.isfinite(band) & shown
    kept: NDArray[Any] = band[keep if nodata is None else keep & (band != nodata)]
    return kept


def low_quantile(read: Callable[[int, int, int, int], NDArray[Any]], shape: tuple[int, int]) -> float | None:
    """The 2 % quantile of a band over the pixels that decide; None where none of them has data.

    Args:
        read: Gives the band's values with data in a window (top, left, height, width), in one dimension.
        shape: Height and width of the raster.
    """
    height, width = shape
    if height * width <= WHOLE:
        values = read(0, 0, height, width)
    else:
        tops, lefts = _starts(height), _starts(width)
        values = np.concatenate(
            [read(y, x, min(WINDOW, height - y), min(WINDOW, width - x)) for y in tops for x in lefts]
        )
    return float(np.quantile(values, LOW)) if values.size else None


def array_low_quantile(band: NDArray[Any], nodata: float | None) -> float | None:
    """The same of a band `[H, W]` that is in memory already."""
    height, width = band.shape
    return low_quantile(lambda y, x, h, w: with_data(band[y : y + h, x : x + w], nodata), (height, width))


def _starts(length: int) -> list[int]:
    """Where the windows begin along an axis: in the middle of each third, at a multiple of their size."""
    return sorted({int((2 * k + 1) * length / (2 * ACROSS)) // WINDOW * WINDOW for k in range(ACROSS)})
