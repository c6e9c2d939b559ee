"""Masks and probabilities as Cloud Optimized GeoTIFFs, on exactly the grid of the raster they were made from.

Nothing in a file depends on when or where it was written: equal masks give equal bytes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_raster

from eo_data.usecase import IGNORE

if TYPE_CHECKING:
    from eo_data.model.description import ModelClass
    from eo_serving.raster_bodies import OpenRaster

BLOCK: Final = 512
"""Side of a block of the files, pixels; larger rasters have overviews."""


@dataclass(frozen=True)
class RasterGrid:
    """Where a raster's pixels lie.

    Attributes:
        shape: Height and width.
        crs: rasterio's CRS, None for none.
        transform: None for none.
    """

    shape: tuple[int, int]
    crs: Any = None
    transform: Affine | None = None

    @classmethod
    def of(cls, image: OpenRaster) -> RasterGrid:
        """The grid of an image."""
        return cls(image.shape, image.crs, image.transform)

    def profile(self) -> dict[str, Any]:
        """As rasterio's creation options."""
        placed = {"crs": self.crs, "transform": self.transform}
        return {
            "height": self.shape[0],
            "width": self.shape[1],
            **{key: value for key, value in placed.items() if value is not None},
        }


class RasterRows:
    """A raster that is written from top to bottom.

    Args:
        target: An open rasterio dataset.
    """

    def __init__(self, target: Any) -> None:
        self._target = target

    def write(self, top: int, rows: NDArray[Any]) -> None:
        """Write rows `[bands, n, width]` that begin at row `top`."""
        window = rasterio.windows.Window(0, top, rows.shape[2], rows.shape[1])
        self._target.write(rows, window=window)


@contextlib.contextmanager
def mask_file(
    path: str, scratch: str, grid: RasterGrid, classes: Sequence[ModelClass], tags: Mapping[str, str]
) -> Iterator[RasterRows]:
    """Write a mask COG: uint8 class index, nodata 255, colour table, class names and tags.

    Args:
        path: Where the COG is written when the block ends without an error.
        scratch: Path of a temporary GeoTIFF, which the caller removes.
        grid: The grid of the input.
        classes: The model's classes.
        tags: TIFF tags.
    """
    colors = {c.value: (*(int(c.color[k : k + 2], 16) for k in (1, 3, 5)), 255) for c in classes}
    names = {f"CLASS_{c.value}": c.name for c in classes}
    with _cloud_optimized(path, scratch, grid, 1, "uint8", IGNORE, "NEAREST") as target:
        target.write_colormap(1, colors | {IGNORE: (0, 0, 0, 0)})
        target.set_band_description(1, "class")
        target.update_tags(**tags, **names)
        yield RasterRows(target)


@contextlib.contextmanager
def probability_file(
    path: str, scratch: str, grid: RasterGrid, classes: Sequence[ModelClass], tags: Mapping[str, str]
) -> Iterator[RasterRows]:
    """Write a COG of probabilities: float32, a band per class, NaN without data. Arguments as `mask_file`."""
    with _cloud_optimized(path, scratch, grid, len(classes), "float32", float("nan"), "AVERAGE") as target:
        for number, c in enumerate(classes, start=1):
            target.set_band_description(number, c.name)
        target.update_tags(**tags)
        yield RasterRows(target)


@contextlib.contextmanager
def _cloud_optimized(
    path: str, scratch: str, grid: RasterGrid, count: int, dtype: str, nodata: float, resampling: str
) -> Iterator[Any]:
    """An open scratch GeoTIFF, copied to a COG at `path` when the block ends without an error."""
    tiled = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK} if max(grid.shape) > BLOCK else {}
    with rasterio.Env(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a raster without a grid is answered without one
        with rasterio.open(
            scratch, "w", driver="GTiff", count=count, dtype=dtype, nodata=nodata, interleave="band",
            bigtiff="IF_SAFER", **tiled, **grid.profile(),
        ) as target:  # fmt: skip
            yield target
        copy_raster(
            scratch, path, driver="COG", compress="DEFLATE", predictor="YES" if dtype == "float32" else "NO",
            blocksize=BLOCK, overview_resampling=resampling, bigtiff="IF_SAFER",
        )  # fmt: skip


@contextlib.contextmanager
def memory_paths() -> Iterator[tuple[str, str, Any]]:
    """Path and scratch path in memory, and the file that holds the finished bytes: `bytes(file.getbuffer())`."""
    with MemoryFile(ext="tif") as finished, MemoryFile(ext="tif") as scratch:
        yield finished.name, scratch.name, finished
