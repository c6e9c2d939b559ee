"""Quicklooks: a picture of a scene, its mask laid over it, for people."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_data.usecase import IGNORE

MAX_SIDE = 1024
"""Greatest side of a quicklook, pixels; larger scenes are thinned by whole steps."""


def true_colour(rgb: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Reflectance `[3, H, W]` stretched between its 2 % and 98 % quantiles to uint8 `[H, W, 3]`; white without data."""
    picture = np.full((*rgb.shape[1:], 3), 255, dtype=np.uint8)
    if valid.any():
        low, high = np.percentile(rgb[:, valid], (2, 98))
        stretched = np.clip((rgb - low) / max(high - low, 1.0), 0, 1) ** 0.8
        picture[valid] = (stretched * 255).astype(np.uint8).transpose(1, 2, 0)[valid]
    return picture


def overlay(picture: NDArray[np.uint8], mask: NDArray[np.uint8], colors: Sequence[str]) -> NDArray[np.uint8]:
    """A picture `[H, W, 3]` with every class but the first laid over it at 60 %; 255 in the mask stays bare."""
    result = picture.copy()
    for index, color in enumerate(colors[1:], start=1):
        hit = mask == index
        paint = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)], dtype=np.float32)
        result[hit] = (0.4 * picture[hit] + 0.6 * paint).astype(np.uint8)
    return result


def quicklook_picture(
    rgb: NDArray[np.float32], mask: NDArray[np.uint8] | None, colors: Sequence[str]
) -> NDArray[np.uint8]:
    """A picture of a scene, and beside it the same with its mask laid over, `[H, W, 3]`.

    Args:
        rgb: Red, green, blue as reflectance x 10000 `[3, H, W]`.
        mask: Class indexes `[H, W]`, 255 without data; None for the scene alone.
        colors: `#rrggbb` per class.
    """
    step = max(1, -(-max(rgb.shape[1:]) // MAX_SIDE))
    rgb = rgb[:, ::step, ::step]
    valid = (rgb != 0).any(axis=0) if mask is None else mask[::step, ::step] != IGNORE
    picture = true_colour(rgb, valid)
    if mask is None:
        return picture
    gap = np.full((picture.shape[0], 4, 3), 255, dtype=np.uint8)
    return np.concatenate([picture, gap, overlay(picture, mask[::step, ::step], colors)], axis=1)


def quicklook_png(rgb: NDArray[np.float32], mask: NDArray[np.uint8] | None, colors: Sequence[str]) -> bytes:
    """`quicklook_picture` as a PNG."""
    from PIL import Image

    return png_file(Image.fromarray(quicklook_picture(rgb, mask, colors)))


def png_file(image: Any) -> bytes:
    """A PIL image as a PNG; Pillow's `optimize` would take ten times as long for a tenth of the size."""
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
