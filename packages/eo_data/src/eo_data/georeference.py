"""What is asked of a raster's georeference before it is kept, and a south-up raster turned."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from eo_data.cells import project
from eo_data.decoding import require_plausible, strip_rows, undecodable
from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.rasters import geobox_of, mask_reader, open_tiff

_SLACK: Final = 1e-3
"""Pixels by which a row or column may lean over the whole raster: writers round."""


def require_place(dataset: Any, where: str) -> None:
    """Refuse a raster that no place on Earth answers to, or whose place no grid can express.

    A raster without CRS passes, unless control points or RPCs stand in its place.

    Raises:
        DataRefused: So.
    """
    transform = dataset.transform
    grid = geobox_of(dataset)
    if grid is None:
        _require_no_other_georeference(dataset, where)
        return
    if transform == Affine.identity() or not math.isfinite(sum(transform)) or not transform.determinant:
        raise DataRefused("a CRS, but no transform that places it", where=where, fix="Georeference it anew")
    leans = abs(transform.b) * dataset.height > _SLACK * abs(transform.a)
    leans |= abs(transform.d) * dataset.width > _SLACK * abs(transform.e)
    if leans or transform.a < 0:
        how = "rotated or sheared" if leans else "mirrored, east to the left"
        raise DataRefused(
            f"the grid is {how}",
            where=where,
            fix="Bring it north up with gdalwarp (images -r bilinear, labels -r near)",
        )
    if not (dataset.crs.is_geographic or dataset.crs.is_projected):
        raise DataRefused("the CRS is neither geographic nor projected", where=where, fix="Georeference it anew")
    try:
        project(grid, np.array([0, dataset.width] * 2), np.array([0, 0, dataset.height, dataset.height]))
    except DataRefused as error:
        raise DataRefused(f"{error.what} ({error.where})", where=where, fix=error.fix) from error


def _require_no_other_georeference(dataset: Any, where: str) -> None:
    if dataset.gcps[0]:
        raise DataRefused(
            f"georeferenced by {len(dataset.gcps[0])} ground control points only",
            where=where,
            fix="Bring it on a grid with gdalwarp -tps, or -order 1, and -t_srs",
        )
    if dataset.rpcs is not None:
        raise DataRefused(
            "georeferenced by RPCs only", where=where, fix="Bring it on a grid with gdalwarp -rpc and -t_srs"
        )


def north_up(path: Path, where: str, folder: Path, name: str) -> Path:
    """A GeoTIFF north up: the file itself, or where its rows run north, a turned copy with equal pixels.

    The copy is written strip by strip and keeps what the file says of its bands, its nodata and its mask.

    Args:
        path: The file.
        where: What it is called in messages.
        folder: Where the copy goes.
        name: What the copy's name begins with.

    Raises:
        DataRefused: If the file cannot be read, or `require_place` refuses it.
        TemporaryFailure: If the copy cannot be written.
    """
    with open_tiff(str(path), where) as source:
        require_place(source, where)
        if source.crs is None or source.transform.e <= 0:
            return path
        turned = folder / f"{name}-north-up.tif"
        _write_turned(source, turned, where)
        return turned


def _write_turned(source: Any, target: Path, where: str) -> None:
    require_plausible(source, where)
    height, width, dtype = source.height, source.width, source.dtypes[0]
    predictor = {"i": {"predictor": 2}, "u": {"predictor": 2}, "f": {"predictor": 3}}
    profile: dict[str, Any] = {
        "driver": "GTiff", "dtype": dtype, "count": source.count, "height": height, "width": width, "crs": source.crs,
        "transform": source.transform @ Affine.translation(0, height) @ Affine.scale(1, -1), "nodata": source.nodata,
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "bigtiff": "if_safer",
        **(predictor.get(np.dtype(dtype).kind, {}) if dtype != "complex_int16" else {}),
    }  # fmt: skip
    mask = mask_reader(source, range(1, source.count + 1))
    step = strip_rows(source)
    try:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(target, "w", **profile) as written:
            written.descriptions, written.units = source.descriptions, source.units
            written.scales, written.offsets = source.scales, source.offsets
            written.colorinterp = source.colorinterp
            for top in range(0, height, step):
                rows = min(step, height - top)
                there = ((height - top - rows, height - top), (0, width))
                here = ((top, top + rows), (0, width))
                written.write(_read(source.read, there, where)[:, ::-1], window=here)
                if mask is not None:
                    written.write_mask(_read(mask, there, where)[::-1], window=here)
    except (RasterioError, CPLE_BaseError) as error:
        raise TemporaryFailure(
            f"the turned copy cannot be written ({error})",
            where=str(target.parent),
            fix="Point TMPDIR to a larger disk",
        ) from error


def _read(read: Callable[..., Any], window: Any, where: str) -> Any:
    try:
        return read(window=window)
    except RasterioError as error:
        raise undecodable(where) from error
