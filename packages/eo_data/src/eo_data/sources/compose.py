"""Several files of one scene, a band each, become one GeoTIFF on the use case's grid."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox, GeoboxTiles
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from eo_data.bands import Band
from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.object_storage import gdal_options
from eo_data.sources.area import Area, cut_to_area
from eo_data.sources.band_files import BandFile, BandHeader, common_grid, read_header, wanted_bands
from eo_data.sources.remote_rasters import gdal_path
from eo_data.usecase import DataSection

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["BandFile", "compose"]

STRIP = 512
"""Rows that are read, resampled and written at a time; also the side of the target's tiles."""

READERS = 8
"""Bands that are read at a time: over a network, waiting is most of the work."""


def compose(
    files: Sequence[BandFile],
    data: DataSection,
    target: Path,
    *,
    where: str,
    area: Area | None = None,
    require: Callable[[GeoBox], None] | None = None,
) -> None:
    """Write several files as one GeoTIFF (tiled 512, deflate, bands described by the use case's names).

    The bands are those of the use case's full list that are on offer, in its order, on the grid of its `data.grid`.
    A band that lies on this grid already is taken pixel by pixel; another is resampled by the method of its kind,
    and values without data are never mixed into those with. The scene is read strip by strip and never whole.

    Args:
        files: What is on offer.
        data: The use case's data section.
        target: Where to; written whole or not at all.
        where: What the scene is called in messages.
        area: West, south, east, north in degrees: only this window is read, in whole pixels.
        require: Called with the grid before any pixel is read; what it raises ends the work.

    Raises:
        DataRefused: If an input band is missing, a file cannot be read, or the files cannot stand in one.
        TemporaryFailure: If a server does not answer, or the target cannot be written.
    """
    chosen = wanted_bands(files, data, where)
    with rasterio.Env(**gdal_options()), warnings.catch_warnings():
        # Once for all threads, since filters are not a thread's own: rasterio warns of files without a grid, which
        # are refused here, and of its own scratch arrays.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        headers = _read_headers(chosen)
        dtype, nodata = _common_values(headers, data, where)
        grid = common_grid(headers, data.grid, data.input_bands, where)
        if area is not None:
            grid = cut_to_area(grid, area, where)
        _require_size(grid, data.expectations.max_size, where)
        if require is not None:
            require(grid)
        if nodata is None:
            _require_cover(headers, grid, where)
        bands = _load(headers, data, grid, dtype, nodata)
        part = target.with_name(f"{target.name}.part")
        try:
            _write(bands, headers, grid, dtype, nodata, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def _read_headers(chosen: list[tuple[Band, BandFile]]) -> list[BandHeader]:
    """Every band's header, several at a time, in their order."""

    def read(pair: tuple[Band, BandFile]) -> BandHeader:
        with rasterio.Env(**gdal_options()):  # GDAL's configuration is a thread's own
            return read_header(*pair)

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, chosen))


def _common_values(headers: Sequence[BandHeader], data: DataSection, where: str) -> tuple[str, float | None]:
    """The type and nodata value of the one file.

    Raises:
        DataRefused: If the bands' own cannot stand in one file.
    """
    values = [header for header in headers if header.band.kind == "reflectance"]
    dtype = values[0].dtype
    for header in headers:
        fits = header.dtype == dtype if header in values else np.can_cast(header.dtype, dtype)
        if not fits or dtype.startswith("complex"):
            raise DataRefused(
                f"band {header.band.name} is {header.dtype}, band {values[0].band.name} is {dtype}",
                where=where,
                fix="Write them as one real type",
            )
    declared = [header for header in headers if header.nodata is not None]
    first = declared[0] if declared else None
    for header in declared:
        if first is not None and not _same(header.nodata, first.nodata):
            raise DataRefused(
                f"band {header.band.name} declares nodata {header.nodata:g}, "
                f"band {first.band.name} declares {first.nodata:g}",
                where=where,
                fix="Write them with one nodata value",
            )
    if first is not None:
        if not _holds(dtype, first.nodata):
            raise DataRefused(
                f"nodata {first.nodata:g} cannot stand in {dtype}", where=where, fix="Declare the real nodata value"
            )
        return dtype, first.nodata
    default = data.reflectance.nodata
    if default is not None and _holds(dtype, default):
        return dtype, default
    return dtype, float("nan") if np.dtype(dtype).kind == "f" else None


def _same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isnan(one) and math.isnan(other))


def _holds(dtype: str, value: float | None) -> bool:
    """Whether a type holds a value as it is."""
    kind = np.dtype(dtype)
    if value is None or kind.kind == "f":
        return value is not None
    limits = np.iinfo(kind)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _require_size(grid: GeoBox, most: int, where: str) -> None:
    if max(grid.shape) > most:
        height, width = grid.height, grid.width
        raise DataRefused(
            f"the grid has {height} x {width} pixels, data.expectations.max_size is {most}",
            where=where,
            fix="Give an area, or a coarser data.grid",
        )


def _require_cover(headers: Sequence[BandHeader], grid: GeoBox, where: str) -> None:
    """Refuse bands that leave a part of the grid empty where there is no value that means empty."""
    wanted = grid.extent.boundingbox
    slack = abs(grid.affine.a) * 1e-3
    for header in headers:
        box = header.grid.extent.boundingbox
        inside = (
            header.grid.crs == grid.crs
            and box.left <= wanted.left + slack
            and box.bottom <= wanted.bottom + slack
            and box.right >= wanted.right - slack
            and box.top >= wanted.top - slack
        )
        if not inside:
            raise DataRefused(
                f"band {header.band.name} does not cover the grid, and no nodata value is declared",
                where=where,
                fix="Declare nodata in the files, or as data.reflectance.nodata",
            )


def _load(
    headers: Sequence[BandHeader], data: DataSection, grid: GeoBox, dtype: str, nodata: float | None
) -> xr.Dataset:
    """The bands on the grid, lazily: a variable per header, `b0`, `b1`, ..., in chunks of one strip."""
    from odc.loader import RasterBandMetadata, RasterGroupMetadata, RasterLoadParams, RasterSource, chunked_load

    from eo_data.sources.explaining_driver import ExplainingDriver

    keys = [f"b{number}" for number in range(len(headers))]
    height, width = grid.height, grid.width
    rows = min(STRIP, height)
    methods = data.grid.resampling.model_dump()
    driver = ExplainingDriver()
    tiles = GeoboxTiles(grid, (rows, width))
    sources = {
        key: RasterSource(gdal_path(header.file.href), band=header.file.index, driver_data=header.file.href)
        for key, header in zip(keys, headers, strict=True)
    }
    parameters = {
        key: RasterLoadParams(
            dtype=dtype,
            fill_value=nodata,
            src_nodata_fallback=nodata,  # JP2 files cannot declare it
            use_overviews=False,  # made by who knows what method
            resampling=methods[header.band.kind],
        )
        for key, header in zip(keys, headers, strict=True)
    }
    meta = RasterGroupMetadata({(key, 1): RasterBandMetadata(dtype, nodata) for key in keys})
    return chunked_load(
        parameters,
        meta,
        [sources],
        {(0, row, 0): [0] for row in range(math.ceil(height / STRIP))},
        tiles,
        [datetime(1970, 1, 1)],  # the loader wants a time
        driver.capture_env(),
        driver,
        chunks={"y": STRIP, "x": width},
    )


def _write(
    bands: xr.Dataset, headers: Sequence[BandHeader], grid: GeoBox, dtype: str, nodata: float | None, path: Path
) -> None:
    height, width = grid.height, grid.width
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": len(headers), "height": height, "width": width, "dtype": dtype, "nodata": nodata,
        "crs": rasterio.crs.CRS.from_user_input(str(grid.crs)), "transform": grid.affine, "tiled": True,
        "blockxsize": STRIP, "blockysize": STRIP, "interleave": "band", "compress": "deflate",
        "predictor": 3 if np.dtype(dtype).kind == "f" else 2, "photometric": "MINISBLACK", "alpha": "NO",
        "BIGTIFF": "IF_SAFER", "NUM_THREADS": "ALL_CPUS",
    }  # fmt: skip
    try:
        with rasterio.open(path, "w", **profile) as target:
            for number, header in enumerate(headers, start=1):
                target.set_band_description(number, header.band.name)
            target.scales = [header.scale for header in headers]
            target.offsets = [header.offset for header in headers]
            for top in range(0, height, STRIP):
                rows = slice(top, min(top + STRIP, height))
                strip = bands.isel(time=0, y=rows).compute(scheduler="threads", num_workers=READERS)
                window = Window(0, top, width, rows.stop - top)
                for number, name in enumerate(strip.data_vars, start=1):
                    target.write(strip[name].values, number, window=window)
    except (RasterioError, CPLE_BaseError, OSError) as error:  # reading has its own errors: see ExplainingDriver
        raise TemporaryFailure(
            "the composed image cannot be written", where=str(path.parent), fix="Check that the disk is not full"
        ) from error
