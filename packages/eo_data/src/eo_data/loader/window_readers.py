"""Readers of windows: an image's pixels and where they have data, a label's class indexes.

A reader belongs to one thread at a time. It decodes into a buffer that the loader reuses, by `tiff_tiles` where the
file's layout is known and by GDAL otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from eo_data.errors import DataRefused
from eo_data.labels import class_indexes
from eo_data.loader.chip_list import Block
from eo_data.loader.label_table import LabelTable
from eo_data.loader.pieces import Piece
from eo_data.loader.raster_index import IndexedFile, IndexedRaster, representable
from eo_data.loader.tiff_tiles import TileReader
from eo_data.object_storage import gdal_options
from eo_data.rasters import mask_reader
from eo_data.tiling import Valid
from eo_data.usecase import IGNORE, DataSection


class ImageReader(Protocol):
    """Reads windows of an image."""

    def read(self, block: Block, pieces: Sequence[Piece]) -> Valid | None:
        """Write a block's pixels to its pieces; where they have data `[h, w]`, None for everywhere."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class LabelReader(Protocol):
    """Reads windows of a label."""

    def read(self, block: Block, target: NDArray[np.uint8]) -> None:
        """Write a window's class indexes to a target `[h, w]`, 255 where they are ignored."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_image_reader(raster: IndexedRaster) -> ImageReader:
    """A reader for an image.

    Raises:
        DataRefused: If the file has gone or was changed since it was indexed.
    """
    raster.image.check()
    return _GdalImage(raster) if raster.image.layout is None else _TiledImage(raster)


def open_label_reader(file: IndexedFile | None, data: DataSection, table: LabelTable | None) -> LabelReader | None:
    """A reader for a label, with its `label_table`; None for none.

    Raises:
        DataRefused: If the file has gone or was changed since it was indexed.
    """
    if file is None:
        return None
    file.check()
    return _GdalLabel(file, data) if file.layout is None or table is None else _TiledLabel(file, table)


def label_table(file: IndexedFile, data: DataSection) -> LabelTable | None:
    """The table of a label's values; None where GDAL reads it: then they are looked up a class at a time."""
    return None if file.layout is None else LabelTable(file.dtype, data, file.nodata)


def read_block(
    block: Block,
    image: ImageReader,
    label: LabelReader | None,
    pieces: Sequence[Piece],
    classes: NDArray[np.uint8] | None,
) -> Valid | None:
    """Read image and label of a block; pixels without data in any band have no class, as in a dataset's chips.

    Args:
        block: Which.
        image: Reads the image.
        label: Reads the label.
        pieces: Where the pixels go.
        classes: Where the class indexes go, `[h, w]`.

    Returns:
        Where all bands have data `[h, w]`; None for everywhere.
    """
    valid = image.read(block, pieces)
    if label is not None and classes is not None:
        label.read(block, classes)
        if valid is not None:
            classes[~valid] = IGNORE
    return valid


class _TiledImage:
    def __init__(self, raster: IndexedRaster) -> None:
        assert raster.image.layout is not None  # noqa: S101 - the caller looked
        fill = representable(raster.image.nodata, raster.image.dtype) or 0
        self._tiles = TileReader(raster.image.path, raster.image.layout, raster.image.where, fill)
        self._bands = tuple(index - 1 for index in raster.indexes)
        self._nodata = representable(raster.radiometry.nodata, raster.image.dtype)

    def read(self, block: Block, pieces: Sequence[Piece]) -> Valid | None:
        nodata = self._nodata
        if nodata is None:
            self._tiles.read(self._bands, pieces)
            return None
        missing = False

        def look(part: NDArray[Any]) -> None:
            nonlocal missing
            if not missing:  # the least value is found many times faster than an equal one
                missing = bool(part.min() == 0 if nodata == 0 and part.dtype.kind == "u" else (part == nodata).any())

        self._tiles.read(self._bands, pieces, look)
        return _valid(block, pieces, nodata) if missing else None

    def close(self) -> None:
        self._tiles.close()


class _GdalImage:
    def __init__(self, raster: IndexedRaster) -> None:
        self._raster = raster
        self._dataset = _open(raster.image)
        self._mask = mask_reader(self._dataset, raster.indexes)
        self._nodata = representable(raster.radiometry.nodata, raster.image.dtype)

    def read(self, block: Block, pieces: Sequence[Piece]) -> Valid | None:
        (piece,) = pieces
        window = Window(block.left, block.top, block.width, block.height)
        try:
            with rasterio.Env(**gdal_options()):
                if self._raster.integral:
                    self._dataset.read(list(self._raster.indexes), window=window, out=piece.pixels)
                    return None if self._nodata is None else _valid(block, pieces, self._nodata)
                values = self._dataset.read(list(self._raster.indexes), window=window)
                hidden = None if self._mask is None else self._mask(window=window) == 0
        except (RasterioError, MemoryError) as error:
            raise _undecodable(self._raster.image) from error
        pixels, valid = self._raster.radiometry.reflectance(values)
        if hidden is not None:
            valid &= ~hidden
        np.copyto(piece.pixels, pixels)
        return valid

    def close(self) -> None:
        self._dataset.close()


class _TiledLabel:
    def __init__(self, file: IndexedFile, table: LabelTable) -> None:
        assert file.layout is not None  # noqa: S101 - the caller looked
        self._file, self._table = file, table
        fill = representable(file.nodata, file.dtype) or 0
        self._tiles = TileReader(file.path, file.layout, file.where, fill)
        self._values = np.empty(0, dtype=file.layout.dtype)

    def read(self, block: Block, target: NDArray[np.uint8]) -> None:
        if len(self._values) < target.size:
            self._values = np.empty(target.size, dtype=self._values.dtype)
        values = self._values[: target.size].reshape(1, *target.shape)
        self._tiles.read((0,), [Piece(block.top, block.left, values)])
        try:
            self._table.look_up(values[0], target)
        except DataRefused as error:
            raise DataRefused(error.what, where=self._file.where, fix=error.fix) from error

    def close(self) -> None:
        self._tiles.close()


class _GdalLabel:
    def __init__(self, file: IndexedFile, data: DataSection) -> None:
        self._file, self._data = file, data
        self._dataset = _open(file)
        self._mask = mask_reader(self._dataset, (1,))

    def read(self, block: Block, target: NDArray[np.uint8]) -> None:
        window = Window(block.left, block.top, block.width, block.height)
        try:
            with rasterio.Env(**gdal_options()):
                values = self._dataset.read(1, window=window)
                hidden = None if self._mask is None else self._mask(window=window) == 0
        except (RasterioError, MemoryError) as error:
            raise _undecodable(self._file) from error
        try:
            np.copyto(target, class_indexes(values, self._data, self._dataset.nodata, hidden))
        except DataRefused as error:
            raise DataRefused(error.what, where=self._file.where, fix=error.fix) from error

    def close(self) -> None:
        self._dataset.close()


def _open(file: IndexedFile) -> Any:
    with rasterio.Env(**gdal_options()), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(file.path, driver="GTiff")
        except RasterioError as error:
            raise DataRefused("the file cannot be opened any more", where=file.where, fix="Bring it back") from error


def _valid(block: Block, pieces: Sequence[Piece], nodata: int) -> Valid | None:
    """Where all bands of integer pixels have data `[h, w]`; None for everywhere."""
    valid = np.empty((block.height, block.width), dtype=np.bool_)
    for piece in pieces:
        top, left, (height, width) = piece.top - block.top, piece.left - block.left, piece.pixels.shape[1:]
        part = valid[top : top + height, left : left + width]
        np.not_equal(piece.pixels[0], nodata, out=part)
        for plane in piece.pixels[1:]:
            part &= plane != nodata
    return None if valid.all() else valid


def _undecodable(file: IndexedFile) -> DataRefused:
    return DataRefused(
        "the pixels cannot be decoded: the file is truncated or damaged",
        where=file.where,
        fix="Fetch or write the file again",
    )
