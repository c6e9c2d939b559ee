"""GeoTIFF tiles decoded without GDAL: libdeflate, zstd or LZW straight to where the pixels are wanted.

GDAL decodes correctly and with the same library, but through a block cache: two copies and a lock more per tile.
What this module does not know (JPEG, LERC, floats, 12 bits, masks) it declines, and GDAL reads the file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused

if TYPE_CHECKING:
    import tifffile

_CODECS: Final = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 50000: "zstd"}
"""TIFF compression -> codec. 32946 is what deflate was before it was in the standard."""

_TYPES: Final = {(8, 1): "u1", (8, 2): "i1", (16, 1): "u2", (16, 2): "i2"}
"""Bits and sample format -> NumPy's type."""


@dataclass(frozen=True)
class TileLayout:
    """Where a TIFF's tiles lie and how they are packed; a strip counts as a tile of the image's width.

    Attributes:
        shape: Height and width of the image, pixels.
        tile: Height and width of a tile, pixels.
        bands: How many bands.
        planar: Whether each band has tiles of its own.
        dtype: Type of the decoded pixels, in this machine's byte order.
        swapped: Whether the file's byte order is the other one.
        codec: `none`, `lzw`, `deflate` or `zstd`.
        predictor: Whether rows hold differences.
        stripped: Whether these are strips: the last one ends with the image.
        offsets: Position of each tile in the file; 0 where it is left out.
        counts: Bytes of each tile; 0 where it is left out.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    bands: int
    planar: bool
    dtype: np.dtype[Any]
    swapped: bool
    codec: str
    predictor: bool
    stripped: bool
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def across(self) -> int:
        """Tiles in a row of tiles."""
        return -(-self.shape[1] // self.tile[1])

    @property
    def tiles(self) -> int:
        """Tiles of a band, or of all bands where they share theirs."""
        return -(-self.shape[0] // self.tile[0]) * self.across

    @property
    def tile_bytes(self) -> int:
        """Bytes of a whole tile, decoded."""
        return self.tile[0] * self.tile[1] * (1 if self.planar else self.bands) * self.dtype.itemsize


def can_decode() -> bool:
    """Whether the extra `fast` is installed."""
    try:
        import imagecodecs  # noqa: F401
        import tifffile  # noqa: F401
    except ImportError:
        return False
    return True


def tile_layout(path: str) -> TileLayout | None:
    """The layout of a TIFF's first image; None where it is no local file that this module can decode."""
    if not (can_decode() and Path(path).is_file()):
        return None
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return _layout(file.pages.first, file.byteorder)
    except Exception:  # whatever tifffile stumbles over is for GDAL to judge
        return None


def _layout(page: tifffile.TiffPage, byteorder: Literal["<", ">"]) -> TileLayout | None:
    samples = page.samplesperpixel
    kind = _TYPES.get((page.bitspersample, int(page.sampleformat)))
    codec = _CODECS.get(int(page.compression))
    if kind is None or codec is None or int(page.predictor) not in (1, 2) or page.fillorder != 1:
        return None
    if page.imagedepth != 1 or page.is_subsampled:
        return None
    planar = samples == 1 or int(page.planarconfig) == 2
    shape = (page.imagelength, page.imagewidth)
    tile = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, shape[0]), shape[1])
    dtype = np.dtype(kind)
    layout = TileLayout(
        shape=shape,
        tile=tile,
        bands=samples,
        planar=planar,
        dtype=dtype,
        swapped=dtype.itemsize > 1 and dtype.newbyteorder(byteorder) != dtype,
        codec=codec,
        predictor=codec != "none" and int(page.predictor) == 2,
        stripped=not page.is_tiled,
        offsets=np.array(page.dataoffsets, dtype=np.int64),
        counts=np.array(page.databytecounts, dtype=np.int64),
    )
    expected = layout.tiles * (samples if planar else 1)
    return layout if len(layout.offsets) == len(layout.counts) == expected else None


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

    def __init__(self, path: str, layout: TileLayout, where: str, fill: float | None = None) -> None:
        self._layout, self._where = layout, where
        self._fill = 0 if fill is None else int(fill)
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
