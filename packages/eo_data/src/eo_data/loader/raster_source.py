"""Loading from GeoTIFFs as they are: blocks are decoded by tiles, or read from a cache of decoded rasters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eo_data.loader.chip_list import Block, RasterGrid
from eo_data.loader.decoded_rasters import Decoded, decoded_raster
from eo_data.loader.label_table import LabelTable
from eo_data.loader.pieces import Piece, cut_from, lay_out
from eo_data.loader.raster_index import IndexedRaster, RasterPair, scan
from eo_data.loader.sources import CutAt, Readers, Task
from eo_data.loader.window_readers import (
    ImageReader,
    LabelReader,
    label_table,
    open_image_reader,
    open_label_reader,
    read_block,
)
from eo_data.usecase import DataSection

IDLE_FILES: Final = 32
"""Pairs of files that stay open while nobody reads them."""


class RasterSource:
    """GeoTIFFs with their labels.

    Args:
        pairs: The files. Each is looked at once, here.
        data: The use case's data section: bands, radiometry, classes.
        own_decoding: Whether to decode without GDAL what can be.
        cache: A folder for decoded rasters. What is not in it yet is decoded into it here, once for all runs, under
            a name made from the files' content and the bands; it takes the rasters' uncompressed size on the disk.

    Raises:
        DataRefused: If a file is no readable GeoTIFF, a band is missing, or a label lies on another grid.
        TemporaryFailure: If the cache cannot be written.
    """

    def __init__(
        self, pairs: Sequence[RasterPair], data: DataSection, *, own_decoding: bool = True, cache: Path | None = None
    ) -> None:
        self._data = data
        self._rasters = scan(pairs, data, own_decoding=own_decoding)
        self._tables = [None if raster.label is None else label_table(raster.label, data) for raster in self._rasters]
        self._decoded: list[Decoded] | None = None
        if cache is not None:
            self._decoded = [decoded_raster(cache, raster, data) for raster in self._rasters]

    @property
    def bands(self) -> int:
        """How many bands a chip has."""
        return len(self._data.inputs)

    @property
    def grids(self) -> list[RasterGrid]:
        """Shape and tiles of each raster, for `grid_chips` and `jittered_chips`."""
        return [raster.grid for raster in self._rasters]

    @property
    def decoders(self) -> list[str]:
        """What decodes each image: `tiles` (this package), `gdal`, or nothing any more, `cache`."""
        if self._decoded is not None:
            return ["cache"] * len(self._rasters)
        return ["gdal" if raster.image.layout is None else "tiles" for raster in self._rasters]

    def __len__(self) -> int:
        """How many rasters."""
        return len(self._rasters)

    def rule(self, raster: int) -> tuple[float, float]:
        """Gain and shift from a raster's pixels to reflectance x 10000."""
        return self._rasters[raster].rule

    def block_bytes(self, block: Block) -> int:
        """Size of the buffer that a block needs, bytes: its pixels, then its label."""
        if self._decoded is not None:
            return 0
        return block.height * block.width * (self.bands * self._rasters[block.raster].stored.itemsize + 1)

    def readers(self) -> Readers:
        """Open files, for one pass over the chips."""
        if self._decoded is not None:
            return _FromCache(self._decoded)
        return _FromFiles(self._rasters, self._tables, self._data)


class _Pair(NamedTuple):
    image: ImageReader
    label: LabelReader | None

    def close(self) -> None:
        self.image.close()
        if self.label is not None:
            self.label.close()


class _FromFiles:
    """Readers of files: opened where they are asked for, kept for the next block of the same raster."""

    def __init__(
        self, rasters: Sequence[IndexedRaster], tables: Sequence[LabelTable | None], data: DataSection
    ) -> None:
        self._rasters, self._tables, self._data = rasters, tables, data
        self._idle: list[tuple[int, _Pair]] = []  # the longest idle first

    def prepare(self, block: Block, buffer: NDArray[np.uint8]) -> Task:
        raster = self._rasters[block.raster]
        pair = self._take(block.raster)

        def run() -> CutAt:
            area = block.height * block.width
            count = area * len(raster.indexes) * raster.stored.itemsize
            side = 0 if raster.image.layout is None else block.side  # GDAL reads a window at once
            pieces = lay_out(block, side, len(raster.indexes), buffer[:count].view(raster.stored))
            label = None
            if pair.label is not None:
                label = buffer[count : count + area].reshape(block.height, block.width)
            valid = read_block(block, pair.image, pair.label, pieces, label)
            return cut_from(pieces, label, valid)

        return Task(run, lambda: self._idle.append((block.raster, pair)))

    def close(self) -> None:
        for _, pair in self._idle:
            pair.close()
        self._idle.clear()

    def _take(self, number: int) -> _Pair:
        while len(self._idle) > IDLE_FILES:
            self._idle.pop(0)[1].close()
        for place in range(len(self._idle) - 1, -1, -1):
            if self._idle[place][0] == number:
                return self._idle.pop(place)[1]
        raster = self._rasters[number]
        image = open_image_reader(raster)
        try:
            return _Pair(image, open_label_reader(raster.label, self._data, self._tables[number]))
        except BaseException:
            image.close()
            raise


class _FromCache:
    def __init__(self, decoded: Sequence[Decoded]) -> None:
        self._decoded = decoded

    def prepare(self, block: Block, buffer: NDArray[np.uint8]) -> Task:
        found = self._decoded[block.raster]
        return Task(lambda: cut_from([Piece(0, 0, found.pixels)], found.label, found.valid), _nothing)

    def close(self) -> None:
        pass


def _nothing() -> None:
    pass
