"""How a block lies in memory: in one piece, or in one piece per chip where its chips lie side by side.

A chip that is a piece of its own is contiguous: it is cast in one go, and memory is read from end to end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eo_data.loader.chip_list import Block
from eo_data.loader.sources import Cut, CutAt
from eo_data.tiling import Valid


class Piece(NamedTuple):
    """A part of a block: its first row and column in the raster, its pixels `[bands, h, w]`."""

    top: int
    left: int
    pixels: NDArray[Any]


def lay_out(block: Block, side: int, bands: int, buffer: NDArray[Any]) -> list[Piece]:
    """Divide a buffer among a block's pieces, row by row; together they take its pixels and no more.

    Args:
        block: The block.
        side: Height and width of a piece, less at the block's lower and right edge; 0 for a single piece.
        bands: How many bands.
        buffer: Memory for so many pixels at least, `[n]`.
    """
    down, across = (side, side) if side else (block.height, block.width)
    pieces, start = [], 0
    for top in range(0, block.height, down):
        for left in range(0, block.width, across):
            shape = (bands, min(down, block.height - top), min(across, block.width - left))
            end = start + shape[0] * shape[1] * shape[2]
            pieces.append(Piece(block.top + top, block.left + left, buffer[start:end].reshape(shape)))
            start = end
    return pieces


def cut_from(pieces: list[Piece], label: NDArray[np.uint8] | None, valid: Valid | None) -> CutAt:
    """Cutting chips: windows of a single piece, else whole pieces.

    Args:
        pieces: The block's.
        label: Its class indexes `[h, w]`; None where there is no label.
        valid: Where it has data `[h, w]`; None for everywhere.
    """
    first_row, first_column = pieces[0].top, pieces[0].left
    places = {(piece.top, piece.left): piece.pixels for piece in pieces}

    def cut(top: int, left: int, size: int) -> Cut:
        row, column = top - first_row, left - first_column
        rows, columns = slice(row, row + size), slice(column, column + size)
        return Cut(
            pieces[0].pixels[:, rows, columns] if len(pieces) == 1 else places[top, left],
            None if label is None else label[rows, columns],
            None if valid is None else valid[rows, columns],
        )

    return cut
