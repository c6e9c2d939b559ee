"""A picture of a raster and its mask, gathered while the raster is read and predicted: no second pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from eo_data.bands import band_key
from eo_data.usecase import IGNORE

if TYPE_CHECKING:
    from eo_data.tiling import Pixels, ReadWindow, Valid
    from eo_data.usecase import DataSection
    from eo_serving.service import MaskRows

MAX_SIDE: Final = 1024
"""Greatest side of the picture of the scene, pixels; larger rasters are thinned by whole steps."""


class Thumbnail:
    """Every n-th pixel of a raster and of its mask.

    Args:
        shape: Height and width of the raster.
        data: The use case's data section, whose input bands are shown.
    """

    def __init__(self, shape: tuple[int, int], data: DataSection) -> None:
        self._step = max(1, -(-max(shape) // MAX_SIDE))
        size = tuple(-(-side // self._step) for side in shape)
        self._bands = shown_bands(data)
        self._rgb = np.zeros((3, *size), dtype=np.float32)
        self._mask = np.full(size, IGNORE, dtype=np.uint8)

    def watch(self, read: ReadWindow) -> ReadWindow:
        """The same reader, whose windows of full width are noted on the way."""

        def watched(top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
            pixels, valid = read(top, left, height, width)
            first = -top % self._step  # of these rows, the first that is kept
            kept = pixels[self._bands, first :: self._step, :: self._step]
            at = (top + first) // self._step
            self._rgb[:, at : at + kept.shape[1]] = kept
            return pixels, valid

        return watched

    def add(self, rows: MaskRows) -> None:
        """Note finished rows of the mask."""
        first = -rows.top % self._step
        kept = rows.mask[first :: self._step, :: self._step]
        at = (rows.top + first) // self._step
        self._mask[at : at + kept.shape[0]] = kept

    def png(self, colors: Sequence[str]) -> bytes:
        """The picture.

        Args:
            colors: `#rrggbb` per class.
        """
        from eo_data.quicklook import quicklook_png

        return quicklook_png(self._rgb, self._mask, colors)


def shown_bands(data: DataSection) -> list[int]:
    """Which of the input bands are shown as red, green and blue: those of that name, else the first three."""
    found = []
    for color in ("red", "green", "blue"):
        found += [i for i, band in enumerate(data.input_bands) if band_key(color) in band.keys]
    if len(found) == 3:
        return found
    last = len(data.input_bands) - 1
    return [0, min(1, last), min(2, last)]
