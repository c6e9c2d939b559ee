"""Labels: a source's class raster as class indexes on the image's grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from eo_data.errors import DataRefused
from eo_data.rasters import mask_reader, open_tiff
from eo_data.usecase import IGNORE, DataSection

LABEL_FILE: Final = "label.tif"


def class_indexes(
    values: NDArray[Any], data: DataSection, nodata: float | None = None, hidden: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Label values `[H, W]` as class indexes (uint8), 255 where they are ignored, NaN, the file's nodata or hidden.

    Raises:
        DataRefused: If a value stands for no class; all such values are named.
    """
    result = np.full(values.shape, IGNORE, dtype=np.uint8)
    known = np.isin(values, data.ignore_label_values)
    if values.dtype.kind == "f":
        known |= ~np.isfinite(values)
    for index, definition in enumerate(data.classes):
        hit = np.isin(values, definition.label_values)
        result[hit] = index
        known |= hit
    with np.errstate(over="ignore"):  # a nodata value beyond the label's own type is nowhere in it
        absent = None if nodata is None else values == nodata
    for missing in (absent, hidden):
        if missing is not None:
            result[missing] = IGNORE
            known |= missing
    if not known.all():
        strange = ", ".join(f"{value:.9g}" for value in np.unique(values[~known])[:5])
        raise DataRefused(
            f"label values {strange} stand for no class", where="label", fix="Add them to the use case's classes"
        )
    return result


@dataclass(frozen=True)
class LabelRaster:
    """An open label, read window by window.

    Attributes:
        where: What it is called in messages.
        shape: Height and width, pixels.
        data: The use case's data section.
    """

    where: str
    shape: tuple[int, int]
    data: DataSection
    _source: Any

    def read(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """A window's class indexes `[h, w]`, 255 where it is not scored.

        Raises:
            DataRefused: If it cannot be decoded or holds a value that stands for no class.
        """
        window = Window(left, top, width, height)
        try:
            values = self._source.read(1, window=window)
            mask = mask_reader(self._source, (1,))
            hidden = None if mask is None else mask(window=window) == 0
        except RasterioError as error:
            raise DataRefused(
                "the label cannot be decoded: the file is truncated or damaged",
                where=self.where,
                fix="Fetch it again",
            ) from error
        try:
            return class_indexes(values, self.data, self._source.nodata, hidden)
        except DataRefused as error:
            raise DataRefused(error.what, where=self.where, fix=error.fix) from error


@contextmanager
def open_label(source: str, data: DataSection, where: str) -> Iterator[LabelRaster]:
    """Open a label file.

    Raises:
        DataRefused: If it is no readable one-band GeoTIFF.
    """
    with open_tiff(source, where) as dataset:
        if dataset.count != 1:
            raise DataRefused(
                f"a label has one band, this one has {dataset.count}", where=where, fix="Keep the classes"
            )
        yield LabelRaster(where, (dataset.height, dataset.width), data, dataset)


def read_label(source: str, data: DataSection, where: str) -> NDArray[np.uint8]:
    """A label file as class indexes `[H, W]`, uint8, 255 where it is not scored.

    Raises:
        DataRefused: If it is no readable one-band GeoTIFF or holds a value that stands for no class.
    """
    with open_label(source, data, where) as label:
        return label.read(0, 0, *label.shape)
