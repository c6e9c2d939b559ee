"""The one hand-labelled Sentinel-2 chip, as the product reads images and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.labels import read_label
from eo_data.rasters import open_image
from eo_data.usecase import IGNORE, UseCase

CHIP: Final = "Spain_7370579"


def read_chip(folder: Path, usecase: UseCase) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image int16 `[bands, 512, 512]`, reflectance x 10000 and 0 without data, and label uint8 `[512, 512]`."""
    with open_image(str(folder / "S2Hand" / f"{CHIP}_S2Hand.tif"), usecase.data, where=CHIP) as raster:
        pixels, valid = raster.read_all()
    label = read_label(str(folder / "LabelHand" / f"{CHIP}_LabelHand.tif"), usecase.data, CHIP)
    image = np.where(valid, np.rint(pixels), 0).astype(np.int16)
    return image, np.where(valid, label, IGNORE).astype(np.uint8)
