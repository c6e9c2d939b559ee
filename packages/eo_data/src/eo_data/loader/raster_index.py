"""The index of a loader's rasters: each file is looked at once, then read without asking it anything again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eo_data.errors import DataRefused
from eo_data.loader.chip_list import RasterGrid
from eo_data.loader.tiff_layout import TileLayout, tile_layout
from eo_data.radiometry import UNIT, Radiometry
from eo_data.rasters import mask_reader, open_image, open_tiff, same_grid
from eo_data.scene import Scene
from eo_data.usecase import DataSection


@dataclass(frozen=True)
class RasterPair:
    """An image and its label, as files that rasterio opens.

    Attributes:
        image: Path of the image, a GeoTIFF.
        label: Path of its label; None where it has none.
        where: What the pair is called in messages; the path without it.
        asset: The STAC asset's fields, where there is an item.
        properties: The STAC item's properties, where there is one.
        bands: Names of the image's bands, in place of its own descriptions.
    """

    image: str
    label: str | None = None
    where: str = ""
    asset: dict[str, Any] | None = field(default=None, hash=False)
    properties: dict[str, Any] | None = field(default=None, hash=False)
    bands: tuple[str | None, ...] | None = None

    @classmethod
    def of_scene(cls, scene: Scene, label: str | None = None) -> RasterPair:
        """A scene of the store, read as its item says.

        Args:
            scene: The scene.
            label: Path of its label's raster, as `Store.raster_path` gives it.
        """
        return cls(
            scene.raster_path,
            label,
            where=scene.id,
            asset=scene.asset,
            properties=scene.properties,
            bands=scene.band_names,
        )


@dataclass(frozen=True)
class IndexedFile:
    """A file as it was when it was looked at.

    Attributes:
        path: What rasterio opens.
        where: What it is called in messages.
        layout: How to decode it without GDAL; None where GDAL reads it.
        dtype: Type of its values.
        nodata: Its nodata value; None where it declares none.
        masked: Whether it has an internal mask or an alpha band.
        state: Length and time of its last change; None where it is no local file.
    """

    path: str
    where: str
    layout: TileLayout | None
    dtype: np.dtype[Any]
    nodata: float | None
    masked: bool
    state: tuple[int, int] | None

    def check(self) -> None:
        """Refuse a file that has gone or is another one by now.

        Raises:
            DataRefused: Naming it.
        """
        if self.state is not None and _state(self.path) != self.state:
            what = "the file was changed while it was loaded" if Path(self.path).exists() else "the file has gone"
            raise DataRefused(what, where=self.where, fix="Leave files alone while they are read, then start again")


@dataclass(frozen=True)
class IndexedRaster:
    """A pair as the loader knows it.

    Attributes:
        image: The image's file.
        label: The label's; None where there is none.
        grid: Its shape and tiles.
        indexes: Which of the image's bands are read, from 1.
        radiometry: What its values mean.
    """

    image: IndexedFile
    label: IndexedFile | None
    grid: RasterGrid
    indexes: tuple[int, ...]
    radiometry: Radiometry

    @property
    def integral(self) -> bool:
        """Whether blocks keep the file's 8 or 16 bits; else they hold reflectance as float32."""
        return self.image.dtype.kind in "iu" and self.image.dtype.itemsize <= 2 and not self.image.masked

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of a block's pixels."""
        return self.image.dtype if self.integral else np.dtype(np.float32)

    @property
    def rule(self) -> tuple[float, float]:
        """Gain and shift from a block's pixels to reflectance x 10000, as `Radiometry.reflectance` rounds them."""
        if not self.integral:
            return 1.0, 0.0
        gain = np.float32(round(self.radiometry.scale * UNIT, 9))
        return float(gain), float(np.float32(round(self.radiometry.offset * UNIT, 6)))


def scan(pairs: Sequence[RasterPair], data: DataSection, *, own_decoding: bool = True) -> tuple[IndexedRaster, ...]:
    """Look at every file once.

    Args:
        pairs: The files.
        data: The use case's data section: bands, radiometry, classes.
        own_decoding: Whether to decode without GDAL what can be; needs the extra `fast`.

    Raises:
        DataRefused: If a file is no readable GeoTIFF, a band is missing, or a label lies on another grid.
    """
    return tuple(_indexed(pair, data, own_decoding) for pair in pairs)


def _indexed(pair: RasterPair, data: DataSection, own_decoding: bool) -> IndexedRaster:
    where = pair.where or pair.image
    with (
        open_image(
            pair.image, data, where=where, asset=pair.asset, properties=pair.properties, bands=pair.bands
        ) as image,
        open_tiff(pair.image, where) as dataset,
    ):
        file = _file(pair.image, where, dataset, image.indexes, own_decoding)
        label = None
        if pair.label is not None:
            with open_tiff(pair.label, pair.label) as label_dataset:
                _check_label(dataset, label_dataset, pair.label)
                label = _file(pair.label, pair.label, label_dataset, (1,), own_decoding)
        tile = dataset.block_shapes[0] if file.layout is None else file.layout.tile
        shape = (dataset.height, dataset.width)
        grid = RasterGrid(shape, (min(tile[0], shape[0]), min(tile[1], shape[1])))
        return IndexedRaster(file, label, grid, image.indexes, image.radiometry)


def _check_label(image: Any, label: Any, path: str) -> None:
    if label.count != 1:
        raise DataRefused(f"a label has one band, this one has {label.count}", where=path, fix="Keep the classes")
    difference = same_grid(image, label)
    if difference:
        raise DataRefused(
            f"the label does not fit its image: {difference}", where=path, fix="Bring the label on the image's grid"
        )


def representable(nodata: float | None, dtype: np.dtype[Any]) -> int | None:
    """A nodata value as the integer that a pixel can be; None where no pixel can."""
    if nodata is None or dtype.kind not in "iu" or not np.isfinite(nodata) or nodata != int(nodata):
        return None
    limits = np.iinfo(dtype)
    return int(nodata) if limits.min <= nodata <= limits.max else None


def _file(path: str, where: str, dataset: Any, indexes: Sequence[int], own_decoding: bool) -> IndexedFile:
    masked = mask_reader(dataset, indexes) is not None
    dtype = np.dtype(dataset.dtypes[0]) if dataset.dtypes[0] in np.sctypeDict else np.dtype(np.float32)
    layout = tile_layout(path) if own_decoding and not masked else None
    if layout is not None and not _agrees(layout, dataset, dtype):
        layout = None
    return IndexedFile(path, where, layout, dtype, dataset.nodata, masked, _state(path))


def _agrees(layout: TileLayout, dataset: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a layout describes the image that GDAL reads, down to what tiles hold that the file leaves out."""
    same = (layout.shape, layout.bands, layout.dtype) == ((dataset.height, dataset.width), dataset.count, dtype)
    sparse = bool((layout.counts == 0).any())
    return same and not (sparse and dataset.nodata is not None and representable(dataset.nodata, dtype) is None)


def _state(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
