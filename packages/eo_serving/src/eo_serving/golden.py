"""A version's golden chip as a client sends it: the proof, through the public route, that this version answers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from eo_data.digests import mask_digest
from eo_data.errors import DataRefused
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
    with rasterio.Env(), warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", count=bands, height=height, width=width, dtype="float32", nodata=float("nan"),
        ) as target:  # fmt: skip
            target.write(values)
            target.descriptions = description.input.bands
            target.scales = [1 / UNIT] * bands
            target.offsets = [0.0] * bands
        return bytes(memory.read())


def is_golden_mask(description: ModelDescription, body: bytes) -> bool:
    """Whether an answer is the mask that was recorded for the golden chip."""
    try:
        with open_tiff(body, "answer") as dataset:
            return mask_digest(dataset.read(1)) == description.golden.mask_digest
    except DataRefused:
        return False
