"""GeoTIFF tiles decoded without GDAL: libdeflate, zstd or LZW straight to where the pixels are wanted.

GDAL decodes correctly and with the same library, but through a block cache: two copies and a lock more per tile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.loader.pieces import Piece
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
        self._across, self._tiles = layout.across, layout.tiles
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
        bands: tuple[int, ...],
        pieces: Sequence[Piece],
        look: Callable[[NDArray[Any]], None] | None = None,
    ) -> None:
        """Decode a window inside the image; each of its tiles once.

        Args:
            bands: Which bands, from 0.
            pieces: Where to, of the layout's type: from the window's upper left piece to its lower right one.
            look: Is shown the pixels of each tile and band as soon as they are there and in the core's cache.

        Raises:
            DataRefused: If a tile is damaged or beyond the end of the file.
        """
        (rows, columns), end = self._layout.tile, pieces[-1]
        bottom, right = end.top + end.pixels.shape[1], end.left + end.pixels.shape[2]
        for y in range(pieces[0].top // rows, -(-bottom // rows)):
            for x in range(pieces[0].left // columns, -(-right // columns)):
                shares = _shares(pieces, (y * rows, x * columns), (rows, columns))
                number = y * self._across + x
                if self._layout.planar:
                    for place, band in enumerate(bands):
                        self._tile(band * self._tiles + number, y, place, shares, look)
                else:
                    self._pixel_interleaved(number, y, bands, shares)
                    if look is not None:
                        for pixels, _ in shares:
                            look(pixels)

    def _tile(
        self,
        number: int,
        y: int,
        place: int,
        shares: Sequence[_Share],
        look: Callable[[NDArray[Any]], None] | None,
    ) -> None:
        """One tile of one band; straight into its piece where that takes the tile whole."""
        shape = self._shape(y)
        target = shares[0].pixels[place]
        if not self._layout.counts[number]:
            for pixels, _ in shares:
                pixels[place] = self._fill
        elif target.shape == shape:
            if target.flags.c_contiguous and not self._layout.swapped:
                self._unpack(number, target.reshape(-1).view(np.uint8))
                self._undo(target, target)
            else:
                self._undo(self._unpacked(number, shape), target)
        else:
            plain = self._unpacked(number, shape)
            if self._layout.predictor and shares[0].inside[1].start == 0:
                self._undo_apart(plain, place, shares)
            else:
                self._undo(plain, plain)
                for pixels, inside in shares:
                    pixels[place] = plain[inside]
        if look is not None:
            for pixels, _ in shares:
                look(pixels[place])

    def _undo_apart(self, plain: NDArray[Any], place: int, shares: Sequence[_Share]) -> None:
        """Undo the predictor of a tile's first columns from the tile's buffer to the pieces: a copy less."""
        before = plain
        for pixels, (rows, columns) in shares:
            target = pixels[place]
            if columns.start:  # its differences go on from the piece at its left, the one before
                plain[rows, columns.start] += before[:, -1]
            self._undo(plain[rows, columns], target)
            before = target

    def _pixel_interleaved(self, number: int, y: int, bands: tuple[int, ...], shares: Sequence[_Share]) -> None:
        if not self._layout.counts[number]:
            for pixels, _ in shares:
                pixels[...] = self._fill
            return
        plain = self._unpacked(number, (*self._shape(y), self._layout.bands))
        self._undo(plain, plain)
        for pixels, inside in shares:
            for band, plane in zip(bands, pixels, strict=True):
                plane[...] = plain[(*inside, band)]

    def _shape(self, y: int) -> tuple[int, int]:
        """Rows and columns that a tile of a row of tiles holds."""
        rows, columns = self._layout.tile
        return (min(rows, self._layout.shape[0] - y * rows) if self._layout.stripped else rows), columns

    def _unpacked(self, number: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """A tile without compression, in this thread's buffer."""
        plain = _scratch.plain_bytes(prod(shape) * self._layout.dtype.itemsize)
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


class _Share(NamedTuple):
    """What a piece takes of a tile: where it goes `[bands, h, w]`, and rows and columns of the tile."""

    pixels: NDArray[Any]
    inside: tuple[slice, slice]


def _shares(pieces: Sequence[Piece], first: tuple[int, int], tile: tuple[int, int]) -> list[_Share]:
    """What pieces take of a tile, given its first row and column and its height and width."""
    found = []
    for piece in pieces:
        (y, x), (height, width) = first, piece.pixels.shape[1:]
        top, bottom = max(y, piece.top), min(y + tile[0], piece.top + height)
        left, right = max(x, piece.left), min(x + tile[1], piece.left + width)
        if top < bottom and left < right:
            target = piece.pixels[:, top - piece.top : bottom - piece.top, left - piece.left : right - piece.left]
            found.append(_Share(target, (slice(top - y, bottom - y), slice(left - x, right - x))))
    return found


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
