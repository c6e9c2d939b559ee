"""The fetcher: `python -m eo_serving.fetch_process`, started by `eo_serving.remote_reading`.

It brings what a caller's address holds into one local GeoTIFF. It reaches the network through the proxy that its
environment names; what it may take of memory, processor time and disk is bounded by the kernel. The order comes as
JSON on standard input, the answer as JSON on standard output.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eo_data.errors import DataRefused, TerraloopError, UsageError
from eo_data.usecase import DataSection
from eo_serving.configuration import Limits
from eo_serving.problem import TooLarge
from eo_serving.raster_limits import check_size
from eo_serving.remote_bodies import DEGREES, Box

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.windows import Window

MEMORY: Final = 3 * 2**30
"""Bytes of address space, most of it threads' stacks and libraries."""
STRIP: Final = 512
"""Rows that are copied at a time."""
_NODES: Final = 33


def main() -> None:
    """Fetch what standard input asks for."""
    order = json.loads(sys.stdin.buffer.read())
    answer: dict[str, Any]
    stdout = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not spoil the answer
    target, limits = Path(order["target"]), Limits.model_validate_json(order["limits"])
    data = DataSection.model_validate_json(order["data"])
    _limit(limits.max_body_bytes, order["seconds"])
    outgrown: list[int] = []
    signal.signal(signal.SIGXFSZ, lambda number, frame: outgrown.append(number))
    try:
        if order["item"] is None:
            cut(order["href"], order["box"], order["crs"], target, data, limits, keep=order["keep"])
            answer = {"item": None}
        else:
            answer = {"item": join(order["item"], order["box"], target, data, limits)}
    except TerraloopError as error:
        answer = _refusal(error)
    except MemoryError:
        answer = _refusal(_too_large(limits))
    except Exception:  # what it is, the parent's log says
        answer = {"failed": traceback.format_exc()}
    if outgrown:  # GDAL tells it as an error of many kinds, or not at all
        answer = _refusal(_too_large(limits))
    os.write(stdout, json.dumps(answer).encode())
    os._exit(0)  # threads of libraries are not waited for


def cut(href: str, box: Box | None, crs: str, target: Path, data: DataSection, limits: Limits, *, keep: bool) -> None:
    """Copy a window of a remote GeoTIFF, with its band names, scales, nodata and mask.

    Args:
        href: Where it lies.
        box: West, south, east, north; the whole pixels that it touches are copied. None is all.
        crs: What the box's numbers are; degrees are longitude and latitude in this order.
        target: Where to.
        data: Its bands by name are copied; all where the file names none.
        limits: What one request may cost.
        keep: Copy all bands.

    Raises:
        DataRefused: If it is no GeoTIFF, or the box does not touch it.
        TooLarge: If the window is over the limits.
        TemporaryFailure: If its server does not answer, or the target cannot be written.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import DatasetReader

    from eo_data.object_storage import gdal_options
    from eo_data.sources.remote_rasters import explain, gdal_path

    with rasterio.Env(**gdal_options()), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with DatasetReader(gdal_path(href), driver=["GTiff"], sharing=False) as source:
                window = _window(source, box, crs)
                check_size(limits, (window.height, window.width))
                bands = list(source.indexes) if keep else _named(source, data)
                _copy(source, bands, window, target)
        except (RasterioError, CPLE_BaseError) as error:
            raise explain(href, error) from error


def join(item: dict[str, Any], area: Box | None, target: Path, data: DataSection, limits: Limits) -> dict[str, Any]:
    """Compose a STAC item's bands, as `eo-data ingest` does.

    Args:
        item: The item.
        area: West, south, east, north in degrees; None is all.
        target: Where to.
        data: The use case's data section.
        limits: What one request may cost.

    Returns:
        The item of the composed image.

    Raises:
        DataRefused: If a band is missing, or a file cannot be used.
        TooLarge: If the grid is over the limits.
        TemporaryFailure: If a server does not answer, or the target cannot be written.
    """
    from eo_data.sources.compose import compose
    from eo_data.sources.stac import composed_item
    from eo_data.sources.stac_assets import choose_assets

    def require(grid: GeoBox) -> None:
        check_size(limits, (grid.height, grid.width))

    chosen = choose_assets(item, data, "body")
    compose([one.file for one in chosen], data, target, where="body", area=area, require=require)
    return composed_item(item, "body", "request", chosen)


def _window(source: Any, box: Box | None, crs: str) -> Window:
    from odc.geo.geobox import GeoBox
    from rasterio.windows import Window

    if box is None:
        return Window(0, 0, source.width, source.height)
    if source.crs is None:
        raise DataRefused("this raster has no CRS, so no box can be found in it", where="bbox", fix="Leave it out")
    if crs in {DEGREES, "EPSG:4326"}:
        from eo_data.sources.area import cut_to_area, require_area

        grid = GeoBox((source.height, source.width), source.transform, source.crs.to_wkt())
        found = cut_to_area(grid, require_area(box, "bbox"), "bbox")
        column, row = ~source.transform @ (found.affine.c, found.affine.f)
        return Window(round(column), round(row), found.width, found.height)
    return _projected_window(source, box, crs)


def _projected_window(source: Any, box: Box, crs: str) -> Window:
    import numpy as np
    from pyproj import Transformer
    from pyproj.exceptions import ProjError
    from rasterio.windows import Window

    try:
        transformer = Transformer.from_crs(crs, source.crs.to_wkt(), always_xy=True)
    except ProjError as error:
        raise UsageError(f"'{crs[:60]}' is no CRS", where="crs", fix="Such as EPSG:32630") from error
    x, y = np.meshgrid(np.linspace(box[0], box[2], _NODES), np.linspace(box[1], box[3], _NODES))
    place = ~source.transform
    x, y = transformer.transform(x, y)
    columns, rows = place.a * x + place.b * y + place.c, place.d * x + place.e * y + place.f
    seen = np.isfinite(columns) & np.isfinite(rows)
    edges = [0, 0, 0, 0]
    if seen.any():
        low = np.floor([columns[seen].min() + 1e-6, rows[seen].min() + 1e-6])
        high = np.ceil([columns[seen].max() - 1e-6, rows[seen].max() - 1e-6])
        most = (source.width, source.height)
        edges = [*(int(max(0, v)) for v in low), *(int(min(v, m)) for v, m in zip(high, most, strict=True))]
    left, top, right, bottom = edges
    if left >= right or top >= bottom:
        raise DataRefused("the raster does not reach into the box", where="bbox", fix="Check bbox and crs")
    return Window(left, top, right - left, bottom - top)


def _named(source: Any, data: DataSection) -> list[int]:
    """The bands that the use case knows by name; all where there are none."""
    from eo_data.bands import band_key

    known = frozenset().union(*(band.keys for band in data.bands))
    found = [n for n, name in enumerate(source.descriptions, start=1) if name and band_key(name) in known]
    return found or list(source.indexes)


def _copy(source: Any, bands: list[int], window: Window, target: Path) -> None:
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    from eo_data.rasters import mask_reader

    mask = mask_reader(source, bands)
    placed: dict[str, Any] = {"crs": source.crs, "nodata": source.nodata}
    if source.transform != Affine.identity():
        placed["transform"] = source.window_transform(window)
    creation = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    if window.width < STRIP or window.height < STRIP:
        creation = {"compress": "deflate", "zlevel": 1}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            target, "w", driver="GTiff", count=len(bands), height=window.height, width=window.width,
            dtype=source.dtypes[bands[0] - 1], photometric="MINISBLACK", alpha="NO",
            **{key: value for key, value in placed.items() if value is not None}, **creation,
        ) as copy,
    ):  # fmt: skip
        for number, band in enumerate(bands, start=1):
            copy.set_band_description(number, source.descriptions[band - 1] or "")
        copy.scales = [source.scales[band - 1] for band in bands]
        copy.offsets = [source.offsets[band - 1] for band in bands]
        for top in range(0, window.height, STRIP):
            rows = min(STRIP, window.height - top)
            there = Window(window.col_off, window.row_off + top, window.width, rows)
            here = Window(0, top, window.width, rows)
            copy.write(source.read(bands, window=there), window=here)
            if mask is not None:
                copy.write_mask(mask(window=there), window=here)


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(
        f"what is named takes more than {limits.max_body_bytes} bytes, or more memory than is allowed",
        where="body",
        fix="Name a smaller box",
    )


def _refusal(error: TerraloopError) -> dict[str, Any]:
    return {"refused": {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}}


def _limit(size: int, seconds: float) -> None:
    """Bound memory, the size of files, processor time; no core dumps."""
    bounds = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_FSIZE: size,
        resource.RLIMIT_CPU: int(seconds * (os.cpu_count() or 1)) + 5,
        resource.RLIMIT_CORE: 0,
    }
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))


if __name__ == "__main__":
    main()
