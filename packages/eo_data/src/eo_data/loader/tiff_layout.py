"""Where a GeoTIFF's tiles lie and how they are packed, asked of the file once.

What is not known here (JPEG, LERC, floats, 12 bits) is declined, and GDAL reads the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

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
