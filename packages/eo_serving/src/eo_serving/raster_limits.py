"""What a raster takes, seen from its header, before anything of it is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eo_serving.problem import TooLarge

if TYPE_CHECKING:
    from eo_data.usecase import DataSection
    from eo_serving.configuration import Limits

_WIDEST: Final = 8
"""Bytes of the widest value that a sensor's raster holds (float64)."""


def check_size(limits: Limits, shape: tuple[int, int], count: int = 1) -> None:
    """Refuse what is over the limits.

    Args:
        limits: What one request may cost.
        shape: Height and width.
        count: How many images of this size there are.

    Raises:
        TooLarge: Naming the limit.
    """
    pixels = shape[0] * shape[1] * count
    if max(shape) > limits.max_side or pixels > limits.max_pixels:
        raise TooLarge(
            f"{count} x {shape[0]} x {shape[1]} pixels are more than may be sent at once "
            f"({limits.max_pixels} pixels, {limits.max_side} on a side)",
            where="body",
            fix="Cut it into smaller rasters, or use `eo-serving predict` for whole scenes",
        )


def check_blocks(body: bytes, wanted: int, data: DataSection, limits: Limits) -> None:
    """Refuse a raster whose blocks unpack to too much, before any of them is.

    A block is unpacked whole, however little of it is wanted: half a megabyte of deflate can be one strip of
    hundreds, and all of it is unpacked for each row of tiles.

    Args:
        body: A GeoTIFF.
        wanted: How many of its bands are read.
        data: The use case's data section; a raster of all its bands in float64 is what may be sent.
        limits: What one request may cost.

    Raises:
        TooLarge: Naming the block, or all blocks together, and how to write the file instead.
    """
    from eo_data.rasters import open_tiff

    with open_tiff(body, "body") as dataset:
        rows, columns = dataset.block_shapes[0]
        block, total = _decoded(dataset, wanted)
    if block > limits.max_block_bytes:
        raise TooLarge(
            f"one block of this TIFF, {rows} x {columns} pixels, decodes to {block} bytes "
            f"(at most {limits.max_block_bytes})",
            where="body",
            fix="Write it tiled: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE IN.tif OUT.tif",
        )
    most = max(limits.max_block_bytes, limits.max_pixels * len(data.bands) * _WIDEST)
    if total > most:
        raise TooLarge(
            f"the blocks that hold the pixels decode to {total} bytes (at most {most})",
            where="body",
            fix="Write it tiled, in small tiles and with no more bands than are needed, or cut it into smaller rasters",
        )


def _decoded(dataset: Any, wanted: int) -> tuple[int, int]:
    """Bytes of one unpacked block, and of all that hold the wanted bands, with the padding at the edges."""
    rows, columns = dataset.block_shapes[0]
    # Read as text: rasterio's own property knows fewer words than GDAL may say.
    together = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL"
    block = rows * columns * np.dtype(dataset.dtypes[0]).itemsize * (dataset.count if together else 1)
    number = -(-dataset.height // rows) * -(-dataset.width // columns)
    return block, number * block * (1 if together else wanted)
