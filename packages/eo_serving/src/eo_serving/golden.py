"""A version's golden chip as a client sends it: the proof, through the public route, that this version answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.io import MemoryFile

from eo_data.digests import mask_digest
from eo_data.model.session import golden_valid
from eo_data.radiometry import UNIT
from eo_data.rasters import open_tiff

if TYPE_CHECKING:
    from eo_data.model.description import ModelDescription


def golden_geotiff(description: ModelDescription) -> bytes:
    """The golden chip as a GeoTIFF without a grid: described bands, stated scale, NaN where there is no data."""
    pixels = description.golden.decode()
    values = np.where(golden_valid(pixels), pixels, np.float32(np.nan))
    bands, height, width = values.shape
    with rasterio.Env(), MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=bands, height=height, width=width, dtype="float32", nodata=float("nan"),
            transform=rasterio.Affine(1, 0, 0, 0, -1, 0),  # north up: rasterio warns of files without any
        ) as target:  # fmt: skip
            target.write(values)
            target.descriptions = description.input.bands
            target.scales = [1 / UNIT] * bands
            target.offsets = [0.0] * bands
        return bytes(memory.read())


def is_golden_mask(description: ModelDescription, body: bytes) -> bool:
    """Whether an answer is the mask that was recorded for the golden chip.

    Raises:
        DataRefused: If it is no GeoTIFF.
    """
    with open_tiff(body, "answer") as dataset:
        return mask_digest(dataset.read(1)) == description.golden.mask_digest
