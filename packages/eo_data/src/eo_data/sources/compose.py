"""Several files of a scene become one GeoTIFF: files that share a grid, strip by strip."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from eo_data.errors import DataRefused
from eo_data.rasters import same_grid
from eo_data.usecase import DataSection

_ROWS = 512


@dataclass(frozen=True)
class BandFile:
    """One band's file.

    Attributes:
        name: The band's name as the source gives it.
        href: Path or URI of a raster, GeoTIFF or JP2.
        index: The band's number in that file.
    """

    name: str
    href: str
    index: int = 1


def compose(
    files: Sequence[BandFile],
    data: DataSection,
    target: Path,
    *,
    where: str,
    area: tuple[float, float, float, float] | None = None,
) -> None:
    """Write files of one grid as one GeoTIFF, tiled by 512, deflate, bands described by their names.

    Raises:
        DataRefused: If a file cannot be read, or lies on another grid.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            opened = [stack.enter_context(rasterio.open(file.href)) for file in files]
            first = opened[0]
            for file, dataset in zip(files, opened, strict=True):
                difference = same_grid(first, dataset)
                if difference:
                    raise DataRefused(f"band {file.name}: {difference}", where=where, fix="Bring the bands on one grid")
            written = stack.enter_context(
                rasterio.open(
                    target, "w", driver="GTiff", dtype=first.dtypes[0], count=len(files), height=first.height,
                    width=first.width, crs=first.crs, transform=first.transform, nodata=first.nodata, tiled=True,
                    blockxsize=512, blockysize=512, compress="deflate", predictor=2, bigtiff="if_safer",
                )
            )  # fmt: skip
            for number, file in enumerate(files, start=1):
                written.set_band_description(number, file.name)
            for top in range(0, first.height, _ROWS):
                window = ((top, min(top + _ROWS, first.height)), (0, first.width))
                bands = [dataset.read(file.index, window=window) for file, dataset in zip(files, opened, strict=True)]
                written.write(np.stack(bands), window=window)
        except RasterioError as error:
            raise DataRefused(f"a band cannot be decoded ({error})", where=where, fix="Fetch it again") from error
