"""Labels: a source's class raster as class indexes on the image's grid."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from eo_data.errors import DataRefused
from eo_data.rasters import mask_reader, open_tiff
from eo_data.usecase import IGNORE, DataSection

LABEL_FILE: Final = "label.tif"

MOST_VALUES: Final = 64
"""Different values of a label that are counted: classes are few, and a wrong file must not fill its record."""


def class_indexes(
    values: NDArray[Any], data: DataSection, nodata: float | None = None, hidden: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Label values `[H, W]` as class indexes (uint8), 255 where they are ignored, NaN, the file's nodata or hidden.

    A nodata value that the use case lists as a value of a class is that class: a file's writer may declare 0 by
    habit, while the use case says what 0 means. Such a file hides pixels with a mask.

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
    if any(nodata in definition.label_values for definition in data.classes):
        nodata = None
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


def read_label(source: str, data: DataSection, where: str) -> NDArray[np.uint8]:
    """A label file as class indexes `[H, W]`, uint8, 255 where it is not scored.

    Raises:
        DataRefused: If it is no readable one-band GeoTIFF or holds a value that stands for no class.
    """
    with open_tiff(source, where) as dataset:
        if dataset.count != 1:
            raise DataRefused(
                f"a label has one band, this one has {dataset.count}", where=where, fix="Keep the classes"
            )
        try:
            values = dataset.read(1)
            mask = mask_reader(dataset, (1,))
            hidden = None if mask is None else mask() == 0
        except RasterioError as error:
            raise DataRefused(
                "the label cannot be decoded: the file is truncated or damaged", where=where, fix="Fetch it again"
            ) from error
        try:
            return class_indexes(values, data, dataset.nodata, hidden)
        except DataRefused as error:
            raise DataRefused(error.what, where=where, fix=error.fix) from error


def label_values(strips: Iterable[NDArray[Any]]) -> dict[str, int]:
    """How many pixels hold each value of a label, values as text in their order; fed in strips of any height.

    Of more than 64 different values those met first are counted; `more` is how many pixels hold another.
    """
    counts: dict[float, int] = {}
    more = 0
    for strip in strips:
        values, hits = np.unique(strip, return_counts=True)
        for value, hit in zip(values.tolist(), hits.tolist(), strict=True):
            if value in counts or len(counts) < MOST_VALUES or value != value:
                key = math.nan if value != value else value
                counts[key] = counts.get(key, 0) + hit
            else:
                more += hit
    told = {f"{value:.9g}": hit for value, hit in sorted(counts.items())}
    return told | ({"more": more} if more else {})
