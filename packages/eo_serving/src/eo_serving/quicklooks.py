"""A picture of a raster and its mask, gathered while the raster is read and predicted: no second pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eo_data.bands import band_key
from eo_data.usecase import IGNORE

if TYPE_CHECKING:
    from eo_data.model.description import ModelClass
    from eo_data.tiling import Pixels, ReadWindow, Valid
    from eo_data.usecase import DataSection
    from eo_serving.service import MaskRows

MAX_SIDE: Final = 1024
"""Greatest side of the picture of the scene, pixels; larger rasters are thinned by whole steps."""
_TEXT: Final = 14
_LINE: Final = 24
"""Pixels of the legend's letters and lines."""


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

    def scene_png(self) -> bytes:
        """The raster alone, without data where a pixel is 0 in every band that is shown."""
        from PIL import Image

        from eo_data.quicklook import png_file, true_colour

        return png_file(Image.fromarray(true_colour(self._rgb, (self._rgb != 0).any(axis=0))))

    def mask_png(self, classes: Sequence[ModelClass]) -> bytes:
        """The mask alone, to be laid over `scene_png`: class indexes with a palette, the first and 255 transparent."""
        from PIL import Image

        from eo_data.quicklook import png_file

        palette = np.zeros((256, 3), dtype=np.uint8)
        for c in classes:
            palette[c.value] = [int(c.color[k : k + 2], 16) for k in (1, 3, 5)]
        picture = Image.fromarray(self._mask)
        picture.putpalette(palette.tobytes())
        alpha = bytes(0 if value in {classes[0].value, IGNORE} else 255 for value in range(256))
        picture.info["transparency"] = alpha
        return png_file(picture)

    def png(self, classes: Sequence[ModelClass]) -> bytes:
        """The raster, beside it the same with its mask laid over, and below them a legend.

        Args:
            classes: The model's, whose shares of what is shown the legend names.
        """
        from PIL import Image

        from eo_data.quicklook import png_file, quicklook_picture

        picture = Image.fromarray(quicklook_picture(self._rgb, self._mask, [c.color for c in classes]))
        shown = self._mask[self._mask != IGNORE]
        shares = [float(np.mean(shown == c.value)) if shown.size else 0.0 for c in classes]
        labels = [(c.color, f"{c.name} {share:.1%}") for c, share in zip(classes, shares, strict=True)]
        if shown.size < self._mask.size:
            labels.append(("#ffffff", f"no data {1 - shown.size / self._mask.size:.1%} of all"))
        return png_file(_with_legend(picture, labels))


def _with_legend(picture: Any, labels: Sequence[tuple[str, str]]) -> Any:
    """A picture on white with coloured squares and words below, in as many lines as its width asks for."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_TEXT)
    least = _LINE + int(max(font.getlength(text) for _, text in labels)) + 2 * _TEXT
    width = max(picture.width, least)
    places, left, top = [], 0, 0
    for _, text in labels:
        needed = _LINE + int(font.getlength(text)) + _TEXT
        if left and left + needed > width:
            left, top = 0, top + _LINE
        places.append((left, top))
        left += needed
    result = Image.new("RGB", (width, picture.height + top + _LINE + _TEXT), "white")
    result.paste(picture, (0, 0))
    draw = ImageDraw.Draw(result)
    for (x, y), (color, text) in zip(places, labels, strict=True):
        corner = (x + _TEXT // 2, picture.height + y + _TEXT // 2 + 2)
        draw.rectangle((*corner, corner[0] + _TEXT, corner[1] + _TEXT), fill=color, outline="#667788")
        draw.text((corner[0] + _TEXT + 6, corner[1] + _TEXT // 2), text, fill="#1c2733", font=font, anchor="lm")
    return result


def shown_bands(data: DataSection) -> list[int]:
    """Which of the input bands are shown as red, green and blue: those of that name, else the first three."""
    found = []
    for color in ("red", "green", "blue"):
        found += [i for i, band in enumerate(data.input_bands) if band_key(color) in band.keys]
    if len(found) == 3:
        return found
    last = len(data.input_bands) - 1
    return [0, min(1, last), min(2, last)]
