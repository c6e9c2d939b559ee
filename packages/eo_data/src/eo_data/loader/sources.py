"""What a loader asks of the thing that it reads from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eo_data.loader.chip_list import Block
from eo_data.tiling import Valid


class Cut(NamedTuple):
    """A chip inside a block, not copied yet; smaller than a chip where the raster ends.

    Attributes:
        pixels: `[bands, h, w]`, as they are stored.
        label: Class indexes `[h, w]`; None where there is no label.
        valid: Where there are data `[h, w]`; None for everywhere.
    """

    pixels: NDArray[Any]
    label: NDArray[np.uint8] | None
    valid: Valid | None


CutAt = Callable[[int, int, int], Cut]
"""`cut(top, left, size)`: a chip of a block that has been read, by its first row and column in the raster."""


class Task(NamedTuple):
    """A block to read: `run` in any thread, then `done`, also where `run` was never called or failed."""

    run: Callable[[], CutAt]
    done: Callable[[], None]


class Readers(Protocol):
    """Open files, for one pass over the chips."""

    def prepare(self, block: Block, buffer: NDArray[np.uint8]) -> Task:
        """What reads a block into a buffer of at least its size; the chips of the block are views into it.

        Raises:
            DataRefused: If a file has gone or was changed.
        """
        ...

    def close(self) -> None:
        """Close the files; every task has ended."""
        ...


class Source(Protocol):
    """Rasters that blocks are windows of."""

    @property
    def bands(self) -> int:
        """How many bands a chip has."""
        ...

    def __len__(self) -> int:
        """How many rasters."""
        ...

    def rule(self, raster: int) -> tuple[float, float]:
        """Gain and shift from a raster's pixels to reflectance x 10000."""
        ...

    def block_bytes(self, block: Block) -> int:
        """Size of the buffer that a block needs, bytes."""
        ...

    def readers(self) -> Readers:
        """Open files, for one pass over the chips."""
        ...
