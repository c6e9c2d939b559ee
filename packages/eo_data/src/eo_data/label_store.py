"""Labels into the store: a raster of label values under `labels/<id>/<source>/<content>/`, and writing such rasters."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from eo_data.decoding import Decoded
from eo_data.digests import SHORT, json_digest
from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.features import LabelKey
from eo_data.labels import label_values
from eo_data.rasters import open_tiff
from eo_data.store import Store
from eo_data.usecase import IGNORE

STRIP = 512
"""Rows of a label that are in memory at a time."""

_TYPES = ("uint8", "int16", "uint16", "int32", "uint32", "int64")


@dataclass(frozen=True)
class LabelType:
    """What a label raster is written as: its data type, and the value of pixels without a label."""

    dtype: str
    absent: int


def label_type(low: int, high: int, taken: Collection[int]) -> LabelType:
    """The smallest type for values from `low` to `high` and one more: 255, or where that is taken one below them."""
    absent = IGNORE
    if absent in taken:
        absent = min(low, 0, *taken) - 1
    for dtype in _TYPES:
        if np.iinfo(dtype).min <= min(low, absent) and max(high, absent) <= np.iinfo(dtype).max:
            return LabelType(dtype, absent)
    raise ValueError(f"no type holds {low} to {high} and {absent}")


def write_label(path: Path, image: Any, kind: LabelType, rows: Callable[[int, int], NDArray[Any]]) -> None:
    """Write a label GeoTIFF on the grid of an image, a strip at a time.

    Args:
        path: Where.
        image: The image, open in rasterio.
        kind: Type and nodata value.
        rows: The label of the rows from `top` to `bottom`, `[bottom - top, width]` of that type.

    Raises:
        TemporaryFailure: If it cannot be written.
    """
    shape = {"height": image.height, "width": image.width}
    blocks = {"tiled": True, "blockxsize": STRIP, "blockysize": STRIP} if min(shape.values()) >= STRIP else {}
    try:
        with rasterio.open(
            path, "w", driver="GTiff", count=1, dtype=kind.dtype, nodata=kind.absent, crs=image.crs,
            transform=image.transform, compress="deflate", **shape, **blocks,
        ) as label:  # fmt: skip
            for top in range(0, image.height, STRIP):
                bottom = min(top + STRIP, image.height)
                label.write(rows(top, bottom), 1, window=Window(0, top, image.width, bottom - top))
    except (RasterioError, CPLE_BaseError, OSError) as error:  # what `rows` reads has its own errors
        raise TemporaryFailure(
            "the label cannot be written", where=str(path.parent), fix="Check that the disk is not full"
        ) from error


def keep_label(
    store: Store, scene_id: str, source: str, grid: str, path: Path, where: str | None = None
) -> tuple[LabelKey, bool]:
    """Keep a label raster as it is, unless the store has it; its key, and whether it is new.

    The content is what it says: values, mask, nodata value and grid; not how the file is written.

    Args:
        store: Where to.
        scene_id: The scene that it is a label of.
        source: Name of what it came from.
        grid: The grid that it lies on (see `describe_grid`).
        path: The raster.
        where: What it is called in messages; its path unless told.

    Raises:
        DataRefused: If it is no GeoTIFF of one band, or cannot be decoded.
    """
    name = where or str(path)
    with open_tiff(str(path), name) as dataset:
        if dataset.count != 1:
            raise DataRefused(f"a label has one band, this one has {dataset.count}", where=name, fix="Keep the classes")
        if dataset.dtypes[0].startswith("complex"):
            raise DataRefused("complex values are no classes", where=name, fix="Give whole numbers")
        nodata = dataset.nodata
        pixels, values = measure_label(dataset, name)
    label = LabelKey(scene_id, source, label_content(pixels, grid, nodata))
    store.put_new(label.key, path)
    record = {
        "id": scene_id,
        "source": source,
        "content": label.content,
        "pixels": pixels,
        "grid": grid,
        "values": values,
        "created": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    return label, store.put_json_new(label.record, record)


def measure_label(dataset: Any, where: str) -> tuple[str, dict[str, int]]:
    """The digest of an open label's decoded pixels, with its internal mask, and the counts of its values where shown.

    Raises:
        DataRefused: If it cannot be decoded.
    """
    decoded = Decoded(dataset, where)
    values = label_values(strip[0] if shown is None else strip[0][shown] for strip, shown in decoded)
    return decoded.digest(), values


def label_content(pixels: str, grid: str, nodata: float | None) -> str:
    """The short content hash of a label: what it says, not how the file is written."""
    identity = [pixels, grid] if nodata is None else [pixels, grid, f"{nodata:.9g}"]
    return json_digest(identity)[:SHORT]
