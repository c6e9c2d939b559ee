"""GeoTIFF tiles decoded without GDAL: libdeflate, zstd or LZW straight to where the pixels are wanted.

GDAL decodes correctly and with the same library, but through a block cache: two copies and a lock more per tile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.loader.tiff_layout import TileLayout


class _Scratch(threading.local):
    """Buffers of one thread, as large as the largest tile that it met: they stay in its core's cache."""

    def __init__(self) -> None:
        self.packed = bytearray()
        self.plain = np.empty(0, dtype=np.uint8)

    def packed_bytes(self, count: int) -> memoryview:
        if len(self.packed) < count:
            self.packed = bytearray(count)
        return memoryview(self.packed)[:count]

    def plain_bytes(self, count: int) -> NDArray[np.uint8]:
        if len(self.plain) < count:
            self.plain = np.empty(count, dtype=np.uint8)
        return self.plain[:count]


_scratch = _Scratch()


class TileReader:
    """Reads windows of a TIFF by its layout. One thread may use it at a time.

    Args:
        path: The file.
        layout: Its layout.
        where: What it is called in messages.
        fill: The value of tiles that the file leaves out.

    Raises:
        DataRefused: If the file has gone.
    """

    def __init__(self, path: str, layout: TileLayout, where: str, fill: int = 0) -> None:
        self._layout, self._where, self._fill = layout, where, fill
        self._decode = _decoder(layout.codec)
        self._undo = _undo_predictor(layout)
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _gone(where, error) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def read(
        self,
        top: int,
        left: int,
        bands: tuple[int, ...],
        target: NDArray[Any],
        look: Callable[[NDArray[Any]], None] | None = None,
    ) -> None:
        """Decode a window inside the image.

        Args:
            top: Its first row.
            left: Its first column.
            bands: Which bands, from 0.
            target: Where to, `[bands, h, w]` of the layout's type.
            look: Is shown each part of the target as soon as it is there and in the core's cache.

        Raises:
            DataRefused: If a tile is damaged or beyond the end of the file.
        """
        (rows, columns), (height, width) = self._layout.tile, target.shape[1:]
        for y in range(top // rows, -(-(top + height) // rows)):
            for x in range(left // columns, -(-(left + width) // columns)):
                first, last = max(y * rows, top), min((y + 1) * rows, top + height)
                start, end = max(x * columns, left), min((x + 1) * columns, left + width)
                part = target[:, first - top : last - top, start - left : end - left]
                inside = np.s_[first - y * rows : last - y * rows, start - x * columns : end - x * columns]
                number = y * self._layout.across + x
                if self._layout.planar:
                    for band, plane in zip(bands, part, strict=True):
                        self._tile(band * self._layout.tiles + number, y, inside, plane)
                        if look is not None:
                            look(plane)
                else:
                    self._pixel_interleaved(number, y, inside, bands, part)
                    if look is not None:
                        look(part)

    def _tile(self, number: int, y: int, inside: tuple[slice, slice], target: NDArray[Any]) -> None:
        """One tile of one band; straight into the target where it takes the tile whole."""
        if not self._layout.counts[number]:
            target[...] = self._fill
            return
        shape = self._shape(y)
        whole = target.shape == shape
        if whole and target.flags.c_contiguous and not self._layout.swapped:
            self._unpack(number, target.reshape(-1).view(np.uint8))
            self._undo(target, target)
            return
        plain = self._unpacked(number, shape)
        if whole:
            self._undo(plain, target)
        else:
            self._undo(plain, plain)
            target[...] = plain[inside]

    def _pixel_interleaved(
        self, number: int, y: int, inside: tuple[slice, slice], bands: tuple[int, ...], target: NDArray[Any]
    ) -> None:
        if not self._layout.counts[number]:
            target[...] = self._fill
            return
        plain = self._unpacked(number, (*self._shape(y), self._layout.bands))
        self._undo(plain, plain)
        for band, plane in zip(bands, target, strict=True):
            plane[...] = plain[(*inside, band)]

    def _shape(self, y: int) -> tuple[int, int]:
        """Rows and columns that a tile of a row of tiles holds."""
        rows, columns = self._layout.tile
        return (min(rows, self._layout.shape[0] - y * rows) if self._layout.stripped else rows), columns

    def _unpacked(self, number: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """A tile without compression, in this thread's buffer."""
        plain = _scratch.plain_bytes(int(np.prod(shape)) * self._layout.dtype.itemsize)
        self._unpack(number, plain)
        values = plain.view(self._layout.dtype).reshape(shape)
        return values.byteswap(inplace=True) if self._layout.swapped else values

    def _unpack(self, number: int, target: NDArray[np.uint8]) -> None:
        offset, count = int(self._layout.offsets[number]), int(self._layout.counts[number])
        try:
            if self._layout.codec == "none":
                found = os.preadv(self._file, [target.data], offset)
                whole = found == min(count, len(target)) == len(target)
            else:
                packed = _scratch.packed_bytes(count)
                if os.preadv(self._file, [packed], offset) != count:
                    raise ValueError("it ends before its tiles do")
                whole = len(self._decode(packed, target)) == len(target)
        except OSError as error:
            raise _gone(self._where, error) from error
        except (ValueError, RuntimeError) as error:  # imagecodecs' errors are RuntimeErrors
            raise _damaged(self._where, number) from error
        if not whole:
            raise _damaged(self._where, number)


def _decoder(codec: str) -> Callable[[memoryview, NDArray[np.uint8]], Any]:
    if codec == "none":
        return lambda packed, target: target
    import imagecodecs

    decode: Callable[..., Any] = getattr(imagecodecs, f"{codec}_decode")
    return lambda packed, target: decode(packed, out=target)


def _undo_predictor(layout: TileLayout) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """What turns differences along rows into values, from the first array to the second, which may be the same."""
    if not layout.predictor:
        return _copy
    from imagecodecs import delta_decode

    axis = -1 if layout.planar else -2

    def undo(source: NDArray[Any], target: NDArray[Any]) -> None:
        delta_decode(source, axis=axis, out=target)

    return undo


def _copy(source: NDArray[Any], target: NDArray[Any]) -> None:
    if source is not target:
        np.copyto(target, source)


def _gone(where: str, error: OSError) -> DataRefused:
    return DataRefused(f"the file cannot be read any more ({error.strerror})", where=where, fix="Bring it back")


def _damaged(where: str, tile: int) -> DataRefused:
    return DataRefused(
        f"the pixels cannot be decoded: the file is truncated or damaged (tile {tile})",
        where=where,
        fix="Fetch or write the file again",
    )
