"""Reading image rasters: bands by name, values as reflectance x 10000, and where there is data."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from eo_data.bands import band_indexes
from eo_data.dark_band import dark_band_index, low_quantile, with_data
from eo_data.errors import DataRefused
from eo_data.file_kinds import HEAD, what_else
from eo_data.object_storage import gdal_options
from eo_data.radiometry import Radiometry, choose_radiometry, with_offset_by_values
from eo_data.read_gate import ReadGate
from eo_data.reflectance import Reflectance
from eo_data.tiff_structure import is_complete, looks_like_tiff
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import DataSection


@dataclass(frozen=True)
class ImageRaster:
    """An open image, read window by window.

    Attributes:
        where: What it is called in messages.
        shape: Height and width, pixels.
        crs: Its CRS as the file states it (rasterio's); None where it states none.
        transform: Its transform; None where it has none (the identity counts as none).
        stated: The rule that item, file, request or use case state.
        indexes: The band numbers that are read, in the model's order.
        dark_index: The band number of the use case's `offset_by_values`; None where it has no such rule or band.
        taken: When the file says that it was taken (TIFFTAG_DATETIME); None where it does not.
    """

    where: str
    shape: tuple[int, int]
    crs: Any
    transform: Affine | None
    stated: Radiometry
    indexes: tuple[int, ...]
    dark_index: int | None
    taken: str | None
    _default: Reflectance
    _source: Any
    _gate: ReadGate = field(default_factory=ReadGate)

    @property
    def geobox(self) -> GeoBox | None:
        """Its grid; None where it has no CRS."""
        return geobox_of(self._source)

    @property
    def blocks(self) -> tuple[int, int]:
        """Height and width of the blocks that its file is decoded by, pixels."""
        height, width = self._source.block_shapes[self.indexes[0] - 1]
        return int(height), int(width)

    @cached_property
    def radiometry(self) -> Radiometry:
        """The rule that takes its values to reflectance: the stated one, corrected where the values betray it.

        Nothing is decoded before it is asked for, and nothing at all where somebody states the radiometry.

        Raises:
            DataRefused: If the blocks that decide cannot be decoded.
        """
        if self.stated.source != "usecase" or self.dark_index is None:
            return self.stated
        return with_offset_by_values(self.stated, self._default, self.dark_value)

    @cached_property
    def dark_value(self) -> float | None:
        """The low quantile of the dark band, sensor values; None where there is no such band or it has no data."""
        if self.dark_index is None:
            return None

        def read(top: int, left: int, height: int, width: int) -> NDArray[Any]:
            values, shown = self._strided((self.dark_index,), top, left, height, width, 1)
            return with_data(values[0], self.stated.nodata, shown)

        return low_quantile(read, self.shape)

    def read(self, top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
        """A window's reflectance x 10000 `[bands, h, w]` (float32) and where all bands have data `[h, w]`.

        Raises:
            DataRefused: If the file's blocks cannot be decoded (truncated or damaged).
        """
        values, shown = self.sample(top, left, height, width, 1)
        pixels, valid = self.radiometry.reflectance(values)
        if shown is not None:
            valid &= shown
            pixels = np.where(valid, pixels, np.float32(0))
        return pixels, valid

    def sample(
        self, top: int, left: int, height: int, width: int, step: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Every `step`-th row and column of a window: sensor values `[bands, h, w]`, and what the mask shows of it.

        A mask is the file's internal mask or alpha band; None where it has neither. Overviews are never read: who
        made them, and whether fill values were averaged into them, nobody knows.
        """
        return self._strided(self.indexes, top, left, height, width, step)

    def _strided(
        self, bands: Sequence[int | None], top: int, left: int, height: int, width: int, step: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        values = self._decode(partial(self._source.read, list(bands)), top, left, height, width)
        mask = mask_reader(self._source, self.indexes)
        if mask is None:
            return values[:, ::step, ::step], None
        return values[:, ::step, ::step], self._decode(mask, top, left, height, width)[::step, ::step] != 0

    def values(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """A window's values as they stand in the file, `[bands, h, w]`.

        Raises:
            DataRefused: If the file's blocks cannot be decoded.
        """
        return self._decode(partial(self._source.read, list(self.indexes)), top, left, height, width)

    def _decode(self, read: Callable[..., Any], top: int, left: int, height: int, width: int) -> NDArray[Any]:
        try:
            # GDAL's configuration is a thread's own, and any may read.
            with self._gate.reading(), rasterio.Env(**gdal_options()):
                values: NDArray[Any] = read(window=Window(left, top, width, height))
        except (RasterioError, MemoryError) as error:
            raise DataRefused(
                "the pixels cannot be decoded: the file is truncated or damaged",
                where=self.where,
                fix="Fetch or write the file again",
            ) from error
        return values

    def read_all(self) -> tuple[Pixels, Valid]:
        """The whole raster, as `read`."""
        return self.read(0, 0, *self.shape)


@contextmanager
def open_tiff(source: str | bytes, where: str) -> Iterator[Any]:
    """Open a GeoTIFF, from a path or from its bytes, with rasterio; the driver is GTiff, never another.

    A file whose directories are not whole is refused, although GDAL would read on without the lost tags.

    Raises:
        DataRefused: If it is no readable GeoTIFF.
    """
    with rasterio.Env(**gdal_options()), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if not _is_whole(source):
            raise DataRefused("the TIFF is truncated or damaged", where=where, fix="Fetch or write the file again")
        try:
            if isinstance(source, bytes):
                with MemoryFile(source) as memory, memory.open(driver="GTiff") as dataset:
                    yield dataset
            else:
                with rasterio.open(source, driver="GTiff") as dataset:
                    yield dataset
        except (RasterioIOError, CPLE_BaseError) as error:  # some of GDAL's errors come as they are
            what, fix = _what_is_wrong(source)
            raise DataRefused(what, where=where, fix=fix) from error


@contextmanager
def open_image(
    source: str | bytes,
    data: DataSection,
    *,
    where: str,
    asset: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    request: tuple[float | None, float | None] = (None, None),
    bands: tuple[str | None, ...] | None = None,
) -> Iterator[ImageRaster]:
    """Open an image of a use case: its input bands found by name, its radiometry chosen by design 4.6.

    Args:
        source: A path that rasterio opens, or the bytes of a TIFF.
        data: The use case's data section.
        where: What the image is called in messages.
        asset: The STAC asset's fields, where there is an item.
        properties: The STAC item's properties, where there is one.
        request: Scale and offset that a request states.
        bands: Names of the file's bands in their order, in place of its own descriptions.

    Raises:
        DataRefused: If it is no readable GeoTIFF, a band is missing, or its radiometry is impossible.
    """
    with open_tiff(source, where) as dataset:
        names = tuple(dataset.descriptions) if bands is None else bands
        if len(names) != dataset.count:
            raise DataRefused(
                f"{len(names)} band names for {dataset.count} bands", where=where, fix="Name each band once"
            )
        if dataset.dtypes[0].startswith("complex"):
            raise DataRefused("complex values are no reflectance", where=where, fix="Give real values")
        indexes = band_indexes(names, data.bands, data.input_bands, where)
        if asset is not None and len(asset.get("bands") or []) == dataset.count:
            asset = {**asset, "bands": [asset["bands"][index - 1] for index in indexes]}  # those that are read
        image = ImageRaster(
            where=where,
            shape=(dataset.height, dataset.width),
            crs=dataset.crs,
            transform=None if dataset.transform == Affine.identity() else dataset.transform,
            stated=choose_radiometry(
                data.reflectance,
                asset=asset,
                properties=properties,
                scales=[dataset.scales[i - 1] for i in indexes],
                offsets=[dataset.offsets[i - 1] for i in indexes],
                nodata=dataset.nodata,
                request=request,
            ),
            indexes=indexes,
            dark_index=dark_band_index(names, data),
            taken=dataset.tags().get("TIFFTAG_DATETIME"),
            _default=data.reflectance,
            _source=dataset,
        )
        with image._gate:
            yield image


def _what_is_wrong(source: str | bytes) -> tuple[str, str]:
    """Why GDAL cannot open it, and how to mend it; a path that only GDAL can open is judged by GDAL."""
    with _stream(source) as stream:
        head = None if stream is None else stream.read(HEAD)
    if head is not None and looks_like_tiff(head):
        return "the TIFF is truncated or damaged", "Fetch or write the file again"
    if head is None and not Path(str(source)).exists() and not str(source).startswith("/vsi"):
        return "there is no such file", "Check the path; where it was here before, bring it back"
    said, fix = (None if head is None else what_else(head)) or ("", "Give a TIFF file that `rio info` can open")
    return f"this is no GeoTIFF{said}", fix


def _is_whole(source: str | bytes) -> bool:
    with _stream(source) as stream:
        return stream is None or is_complete(stream, stream.seek(0, io.SEEK_END))


@contextmanager
def _stream(source: str | bytes) -> Iterator[BinaryIO | None]:
    """The bytes of a source; None where they cannot be read here."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        stream = Path(source).open("rb")  # noqa: SIM115 - closed below
    except OSError:
        yield None
        return
    with stream:
        yield stream


def mask_reader(dataset: Any, indexes: Sequence[int]) -> Callable[..., Any] | None:
    """What reads where an open rasterio dataset has data (0 is none), called with a window.

    That is its internal mask, else an alpha band that is none of the bands wanted; None where it has neither.
    """
    flags = dataset.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        reader: Callable[..., Any] = dataset.dataset_mask
        return reader
    alphas = [number for number, kind in enumerate(dataset.colorinterp, start=1) if kind is ColorInterp.alpha]
    return next((partial(dataset.read, number) for number in alphas if number not in indexes), None)


def geobox_of(dataset: Any) -> GeoBox | None:
    """The grid of an open rasterio dataset; None without a CRS."""
    if dataset.crs is None:
        return None
    return GeoBox((dataset.height, dataset.width), dataset.transform, dataset.crs.to_wkt())


def same_grid(first: Any, second: Any) -> str | None:
    """How the grids of two open rasterio datasets differ, in words; None where they are the same.

    Transforms may differ by a thousandth of a pixel: writers round.
    """
    if (first.height, first.width) != (second.height, second.width):
        return f"size {second.height} x {second.width}, the image has {first.height} x {first.width}"
    if first.crs != second.crs:
        return f"CRS {second.crs or 'none'}, the image has {first.crs or 'none'}"
    shift = ~first.transform @ second.transform
    corners = [shift @ (x, y) for x in (0, first.width) for y in (0, first.height)]
    wanted = [(x, y) for x in (0, first.width) for y in (0, first.height)]
    if np.abs(np.subtract(corners, wanted)).max() > 1e-3:
        return "a shifted or scaled grid"
    return None
