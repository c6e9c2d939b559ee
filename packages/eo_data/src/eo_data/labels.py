"""Labels: a source's class raster as class indexes on the image's grid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
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

MOST_VALUES: Final = 64
_MOST_COUNTED: Final = 1 << 16
"""Distinct values that are told, and that are counted one by one: no class raster has more."""


def class_indexes(
    values: NDArray[Any], data: DataSection, nodata: float | None = None, hidden: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Label values `[H, W]` as class indexes (uint8), 255 where they are ignored, NaN, the file's nodata or hidden.

    A nodata value that the use case lists as a value of a class is that class: a file's writer may declare 0 by
    habit, while the use case says what 0 means. Such a file hides pixels with a mask.

    Raises:
        DataRefused: If a value stands for no class; all such values are named.
    """
    result, known = judged_values(values, data, nodata, hidden)
    if not known.all():
        strange = ", ".join(f"{value:.9g}" for value in np.unique(values[~known])[:5])
        raise DataRefused(
            f"label values {strange} stand for no class", where="label", fix="Add them to the use case's classes"
        )
    return result


def judged_values(
    values: NDArray[Any], data: DataSection, nodata: float | None = None, hidden: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """As `class_indexes`, and where a value stands for something: elsewhere it is refused."""
    result = np.full(values.shape, IGNORE, dtype=np.uint8)
    known = np.isin(values, data.ignore_label_values)
    if values.dtype.kind == "f":
        known |= ~np.isfinite(values)
    for index, definition in enumerate(data.classes):
        hit = np.isin(values, definition.label_values)
        result[hit] = index
        known |= hit
    if any(nodata in definition.label_values for definition in data.classes):
        nodata = None
    with np.errstate(over="ignore"):  # a nodata value beyond the label's own type is nowhere in it
        absent = None if nodata is None else values == nodata
    for missing in (absent, hidden):
        if missing is not None:
            result[missing] = IGNORE
            known |= missing
    return result, known


def label_values(strips: Iterable[NDArray[Any]]) -> dict[str, int]:
    """How many pixels have which value, counted over the parts of a label, of any shape.

    Returns:
        Count by value as text (`1`, `0.5`, `nan`), in ascending order, NaN last. Of more than 64 distinct values the
        commonest 64 stand, and `more` is the number of pixels that have another.
    """
    counts: Counter[int | float] = Counter()
    missing = others = 0
    for strip in strips:
        for value, count in _counted(strip.ravel()):
            if value != value:
                missing += count
            elif value in counts or len(counts) < _MOST_COUNTED:
                counts[value] += count
            else:
                others += count
    if missing:
        counts[math.nan] = missing
    chosen = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0] != pair[0], pair[0]))[:MOST_VALUES]
    others += counts.total() - sum(count for _, count in chosen)
    ordered = sorted(chosen, key=lambda pair: (pair[0] != pair[0], pair[0]))
    said = {f"{value:.9g}" if isinstance(value, float) else str(value): count for value, count in ordered}
    return said | ({"more": others} if others else {})


def _counted(values: NDArray[Any]) -> list[tuple[int | float, int]]:
    """The distinct values and their counts; NaN at most once."""
    if values.size == 0:
        return []
    if values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if high - low < 1 << 16:  # no sorting
            shifted = values - values.min() if values.dtype.kind == "u" else values.astype(np.int64) - low
            counts = np.bincount(shifted.astype(np.int64))
            return [(low + int(k), int(counts[k])) for k in np.flatnonzero(counts)]
    distinct, found = np.unique(values, return_counts=True)
    return list(zip(distinct.tolist(), found.tolist(), strict=True))


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

    @property
    def nodata(self) -> float | None:
        """The value that the file declares as nodata."""
        value: float | None = self._source.nodata
        return value

    def read(self, top: int, left: int, height: int, width: int, step: int = 1) -> NDArray[np.uint8]:
        """Class indexes of every `step`-th row and column of a window, 255 where it is not scored.

        Raises:
            DataRefused: If it cannot be decoded or holds a value that stands for no class.
        """
        window = Window(left, top, width, height)
        try:
            values = self._source.read(1, window=window)[::step, ::step]
            mask = mask_reader(self._source, (1,))
            hidden = None if mask is None else mask(window=window)[::step, ::step] == 0
        except RasterioError as error:
            raise DataRefused(
                "the label cannot be decoded: the file is truncated or damaged",
                where=self.where,
                fix="Fetch it again",
            ) from error
        try:
            return class_indexes(values, self.data, self.nodata, hidden)
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
