"""Files of one band each: which of them a use case wants, what their headers say, and the grid they are brought to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_output_geobox as output_geobox
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from eo_data.bands import Band, band_key
from eo_data.errors import DataRefused
from eo_data.grid_rule import GridRule
from eo_data.rasters import geobox_of
from eo_data.sources.remote_rasters import DRIVERS, explain, gdal_path, is_remote, plain
from eo_data.store import local_path
from eo_data.tiff_structure import is_complete
from eo_data.usecase import DataSection


@dataclass(frozen=True)
class BandFile:
    """A band of a scene in a file of its own, or in one of several files.

    Attributes:
        name: Band name as the source gives it.
        href: Path, http(s):// or s3:// URI of a raster (GeoTIFF or JP2).
        index: Band number in that file.
    """

    name: str
    href: str
    index: int = 1


@dataclass(frozen=True)
class BandHeader:
    """What a band's file says of it.

    Attributes:
        band: The use case's band.
        file: Where it lies.
        grid: Its pixel grid.
        dtype: Its type, as NumPy names it.
        nodata: The value without data; None where the file declares none.
        scale: GDAL's scale.
        offset: GDAL's offset.
    """

    band: Band
    file: BandFile
    grid: GeoBox
    dtype: str
    nodata: float | None
    scale: float
    offset: float


def wanted_bands(files: Sequence[BandFile], data: DataSection, where: str) -> list[tuple[Band, BandFile]]:
    """The use case's bands that are on offer, in the order of its full list.

    Raises:
        DataRefused: If an input band is missing, or one stands twice.
    """
    found: list[tuple[Band, BandFile]] = []
    for band in data.bands:
        hits = [file for file in files if band_key(file.name) in band.keys]
        if len(hits) > 1:
            raise DataRefused(f"band {band.name} stands {len(hits)} times", where=where, fix="Keep one of them")
        found += [(band, file) for file in hits]
    there = {band.name for band, _ in found}
    missing = [band.name for band in data.input_bands if band.name not in there]
    if missing:
        raise DataRefused(
            f"band {missing[0]} is missing (offered: {', '.join(file.name for file in files) or 'none'})",
            where=where,
            fix="Add it, or name it in the use case's data.bands as the source does",
        )
    return found


def read_header(band: Band, file: BandFile) -> BandHeader:
    """A band's header; only the file's first bytes are read. Call it under `rasterio.Env(**gdal_options())`.

    Raises:
        DataRefused: If the file is no readable raster, has no such band, no CRS, a rotated grid or an internal mask.
        TemporaryFailure: If its server does not answer.
    """
    if not is_remote(file.href):
        _require_whole(file.href)
    try:
        with DatasetReader(gdal_path(file.href), driver=list(DRIVERS), sharing=False) as dataset:
            return _header(band, file, dataset)
    except (RasterioError, CPLE_BaseError) as error:  # some of GDAL's errors come as they are
        raise explain(file.href, error) from error


def _require_whole(href: str) -> None:
    """Refuse a truncated TIFF on disk, from which GDAL would read on without the lost tags."""
    path = Path(local_path(gdal_path(href)))
    if path.is_file():
        try:
            with path.open("rb") as stream:
                if is_complete(stream, path.stat().st_size):
                    return
        except OSError:
            return  # GDAL meets the same, and its failure is explained
        raise DataRefused("the TIFF is truncated or damaged", where=href, fix="Fetch or write it again")


def _header(band: Band, file: BandFile, dataset: Any) -> BandHeader:
    where = plain(file.href)
    if not 1 <= file.index <= dataset.count:
        raise DataRefused(f"there is no band {file.index} among {dataset.count}", where=where, fix="Correct the item")
    grid = geobox_of(dataset)
    if grid is None or not (grid.crs and (grid.crs.geographic or grid.crs.projected)):
        what = "ground control points, but no CRS" if dataset.gcps[0] else "no CRS that has a place on Earth"
        raise DataRefused(what, where=where, fix="Warp it to a CRS, with `rio warp` or gdalwarp")
    place = dataset.transform
    if place == Affine.identity() or not all(map(math.isfinite, place)) or not place.determinant:
        raise DataRefused("a CRS, but no transform that places it", where=where, fix="Georeference it anew")
    if abs(place.b) > 1e-9 * abs(place.a) or abs(place.d) > 1e-9 * abs(place.e):
        raise DataRefused("the grid is rotated", where=where, fix="Warp it north up, with `rio warp` or gdalwarp")
    flags = {flag.name for flag in dataset.mask_flag_enums[file.index - 1]}
    if "per_dataset" in flags and "alpha" not in flags:
        raise DataRefused("an internal mask", where=where, fix="Write its pixels as nodata in place of the mask")
    return BandHeader(
        band=band,
        file=file,
        grid=grid,
        dtype=dataset.dtypes[file.index - 1],
        nodata=dataset.nodatavals[file.index - 1],
        scale=dataset.scales[file.index - 1],
        offset=dataset.offsets[file.index - 1],
    )


def north_up(grid: GeoBox) -> GeoBox:
    """The same pixels, first row in the north, first column in the west."""
    box = grid.extent.boundingbox
    return GeoBox(grid.shape, Affine(abs(grid.affine.a), 0, box.left, 0, -abs(grid.affine.e), box.top), grid.crs)


COARSEST: Final = 3.0
"""How much coarser than the grid the finest input band may be."""


def common_grid(headers: Sequence[BandHeader], rule: GridRule, inputs: Sequence[Band], where: str) -> GeoBox:
    """The grid that a use case's rule gives for these bands: north up, with the place of the finest input band.

    Where a band has the wanted CRS and resolution, its own pixels are the grid, so that they are taken as they are.

    Raises:
        DataRefused: If the bands are of several CRS and the rule names none, or the finest input band is far
            coarser than the grid: its pixels would be copied many times and called detail.
    """
    crs = CRS(rule.crs or str(headers[0].grid.crs))
    others = [header for header in headers if header.grid.crs != crs]
    if rule.crs is None and others:
        raise DataRefused(
            f"band {others[0].band.name} has another CRS ({others[0].grid.crs}) than {headers[0].band.name} ({crs})",
            where=where,
            fix="Name the CRS to bring them to, as data.grid.crs",
        )
    read = sorted((header for header in headers if header.band in inputs), key=_pixel_area)
    rest = [header for header in headers if header.band not in inputs]
    finest = read[0].grid
    if (
        rule.resolution is not None
        and finest.crs == crs
        and math.sqrt(_pixel_area(read[0])) > COARSEST * rule.resolution
    ):
        raise DataRefused(
            f"the finest input band, {read[0].band.name}, has pixels of {math.sqrt(_pixel_area(read[0])):g}, "
            f"data.grid.resolution is {rule.resolution:g}",
            where=where,
            fix="Bring the scene at its full resolution, or set data.grid.resolution to what it has",
        )
    for header in [*read, *rest]:
        if header.grid.crs == crs and (rule.resolution is None or _has_resolution(header.grid, rule.resolution)):
            return north_up(header.grid)
    if finest.crs == crs and rule.resolution is not None:
        box, step = finest.extent.boundingbox, rule.resolution
        height, width = (max(1, math.ceil(span / step - 1e-6)) for span in (box.span_y, box.span_x))
        return GeoBox((height, width), Affine(step, 0, box.left, 0, -step, box.top), crs)
    if rule.resolution is None:
        return north_up(finest).to_crs(crs)
    return output_geobox(north_up(finest), crs, resolution=rule.resolution)


def _pixel_area(header: BandHeader) -> float:
    return float(abs(header.grid.affine.determinant))


def _has_resolution(grid: GeoBox, step: float) -> bool:
    return bool(np.allclose([abs(grid.affine.a), abs(grid.affine.e)], step, rtol=1e-6, atol=0))
