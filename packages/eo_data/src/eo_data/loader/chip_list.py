"""Which chips there are, and in which block each lies: a block is what is decoded at once, chips are cut from it.

Nothing here touches a pixel. A block is a window aligned on a raster's own tiles, one or two of them a side, so that
no tile is decoded twice for chips that lie in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eo_data.errors import UsageError


@dataclass(frozen=True)
class RasterGrid:
    """Height and width of a raster, and of its tiles (or strips), pixels."""

    shape: tuple[int, int]
    tile: tuple[int, int]


@dataclass(frozen=True)
class Block:
    """A window of a raster.

    Attributes:
        raster: The raster's number in its source.
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
        side: Where its chips lie side by side from its first pixel on, their height and width; 0 where they may lie
            anywhere in it.
    """

    raster: int
    top: int
    left: int
    height: int
    width: int
    side: int = 0


@dataclass(frozen=True)
class ChipList:
    """Chips by block.

    Attributes:
        size: Height and width of a chip, pixels.
        blocks: The blocks.
        block: Each chip's block, an index into `blocks`, `[n]`.
        top: Its first row in its raster `[n]`; what lies beyond the raster has no data.
        left: Its first column `[n]`.
        jittered: Whether `top` and `left` do not count: each epoch draws a window inside the block instead.
    """

    size: int
    blocks: tuple[Block, ...]
    block: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    jittered: bool = False

    def __len__(self) -> int:
        """How many chips."""
        return len(self.block)

    def select(self, chosen: ArrayLike) -> ChipList:
        """Some of the chips, by index or by a mask; blocks without any are never read."""
        index = np.asarray(chosen)
        return ChipList(
            self.size, self.blocks, self.block[index], self.top[index], self.left[index], jittered=self.jittered
        )

    def windows(self, chips: NDArray[np.int64], seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First rows and columns of chips, by index, in an epoch; a chip drawn twice has two places if jittered."""
        if not self.jittered:
            return self.top[chips], self.left[chips]
        chance = np.random.default_rng([seed, epoch, 1]).random((2, len(chips)))
        sides = np.array([(b.top, b.left, b.height, b.width) for b in self.blocks], dtype=np.int64)
        top, left, height, width = sides[self.block[chips]].T
        room = np.maximum(np.stack([height, width]) - self.size, 0) + 1
        places = np.stack([top, left]) + np.floor(chance * room).astype(np.int64)
        return places[0], places[1]

    def digest(self) -> str:
        """A digest of all of it: a saved state belongs to one list."""
        told = hashlib.sha256(repr((self.size, self.jittered, len(self.block))).encode())
        told.update(np.array([(b.raster, b.top, b.left, b.height, b.width) for b in self.blocks], "<i8").tobytes())
        for part in (self.block, self.top, self.left):
            told.update(part.astype("<i8").tobytes())
        return told.hexdigest()


def grid_chips(grids: Sequence[RasterGrid], size: int, *, tiles: int = 1, edges: bool = True) -> ChipList:
    """Chips side by side from each raster's first pixel on; every pixel is in one chip.

    Where the tile's side is a multiple of `size` no tile is decoded twice.

    Args:
        grids: The rasters.
        size: Side of a chip, pixels.
        tiles: Least tiles a side of a block.
        edges: Whether chips that reach beyond the raster count; there they have no data.
    """
    _check(size, tiles, 1)
    blocks: list[Block] = []
    chips: list[tuple[int, int, int]] = []
    for raster, grid in enumerate(grids):
        (height, width), sides = grid.shape, [-(-tiles * length // size) * size for length in grid.tile]
        for top in range(0, height, sides[0]):
            for left in range(0, width, sides[1]):
                block = Block(raster, top, left, min(sides[0], height - top), min(sides[1], width - left), size)
                inside = [
                    (len(blocks), y, x)
                    for y in range(top, top + block.height, size)
                    for x in range(left, left + block.width, size)
                    if edges or (y + size <= height and x + size <= width)
                ]
                if inside:
                    blocks.append(block)
                    chips += inside
    return _chip_list(size, blocks, chips)


def jittered_chips(grids: Sequence[RasterGrid], size: int, *, tiles: int = 2, per_tile: int = 8) -> ChipList:
    """Chips at random places inside blocks, drawn anew each epoch: the same seed and epoch give the same places.

    Chips of a block overlap where `per_tile` chips have more pixels than a tile, and so do blocks at a raster's
    lower and right edge that would be smaller than a chip.

    Args:
        grids: The rasters.
        size: Side of a chip, pixels.
        tiles: Tiles a side of a block, more where a chip needs them.
        per_tile: Chips per tile of a block and epoch.
    """
    _check(size, tiles, per_tile)
    blocks: list[Block] = []
    chips: list[tuple[int, int, int]] = []
    for raster, grid in enumerate(grids):
        rows, columns = (
            _stretches(length, tile, max(tiles, -(-size // tile)) * tile, size)
            for length, tile in zip(grid.shape, grid.tile, strict=True)
        )
        for top, height in rows:
            for left, width in columns:
                count = max(1, round(per_tile * height * width / (grid.tile[0] * grid.tile[1])))
                chips += [(len(blocks), top, left)] * count
                blocks.append(Block(raster, top, left, height, width))
    return _chip_list(size, blocks, chips, jittered=True)


def _stretches(length: int, tile: int, side: int, size: int) -> list[tuple[int, int]]:
    """Start and length of blocks along an axis, on tile borders, each of a chip's size at least."""
    found = []
    for start in range(0, length, side):
        missing = max(0, size - (length - start))
        first = max(0, start - -(-missing // tile) * tile)
        found.append((first, min(start + side, length) - first))
    return found


def _check(size: int, tiles: int, per_tile: int) -> None:
    for name, value in (("size", size), ("tiles", tiles), ("per_tile", per_tile)):
        if value < 1:
            raise UsageError(f"{value} is too small", where=name, fix="Give at least 1")


def _chip_list(
    size: int, blocks: Iterable[Block], chips: list[tuple[int, int, int]], jittered: bool = False
) -> ChipList:
    block, top, left = np.array(chips, dtype=np.int64).reshape(-1, 3).T.copy()
    return ChipList(size, tuple(blocks), block, top, left, jittered)
