"""What the loader's tests read: a small use case, rasters that it reads, and chips by the slow path."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from eo_data.labels import class_indexes
from eo_data.loader import ChipList, ChipLoader, ChipPlace, Minibatch, RasterPair, RasterSource
from eo_data.loader.raster_index import scan
from eo_data.usecase import IGNORE, DataSection

from .conftest import write_tiff

DATA = DataSection.model_validate(
    {
        "sensor": "test",
        "bands": [{"name": "B1"}, {"name": "B2"}, {"name": "B3"}],
        "inputs": ["B3", "B1"],
        "classes": [
            {"name": "land", "color": "#000000", "label_values": [1]},
            {"name": "water", "color": "#0000ff", "label_values": [2, 7]},
        ],
        "ignore_label_values": [9],
        "split": {"salt": "loader"},
    }
)
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64, "predictor": 2}


def write_pair(
    folder: Path,
    name: str = "a",
    shape: tuple[int, int] = (200, 330),
    *,
    nodata: float | None = None,
    least: int = 1,
    label: NDArray[Any] | None = None,
    dtype: str = "uint16",
    **profile: Any,
) -> RasterPair:
    """An image of three bands and its label, random; tiles of 64 unless told."""
    rng = np.random.default_rng(sum(name.encode()))
    pixels = rng.integers(least, 4000, (3, *shape)).astype(dtype)
    image = write_tiff(folder / f"{name}.tif", pixels, nodata=nodata, **{**TILED, **profile})
    values = rng.choice([1, 2, 7, 9, 255], shape).astype(np.uint8) if label is None else label
    labels = write_tiff(
        folder / f"{name}-label.tif", values[None], nodata=255, tiled=True, blockxsize=128, blockysize=48
    )
    return RasterPair(str(image), str(labels))


def expected(pair: RasterPair, place: ChipPlace, size: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Image, label and valid of a chip by rasterio and `Radiometry.reflectance`; no data beyond the raster."""
    stamp = tuple(Path(str(path)).stat().st_mtime_ns for path in (pair.image, pair.label))
    wanted = _padded(pair, stamp, size)
    part = np.s_[place.top : place.top + size, place.left : place.left + size]
    return wanted[0][:, *part], wanted[1][part], wanted[2][part]


@lru_cache(maxsize=8)
def _padded(pair: RasterPair, stamp: tuple[int, ...], size: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A whole pair, with a chip's width of no data at its right and lower edge."""
    (indexed,) = scan([pair], DATA, own_decoding=False)
    with rasterio.open(pair.image) as image, rasterio.open(pair.label) as label:
        pixels, has_data = indexed.radiometry.reflectance(image.read([3, 1]))
        has_data &= image.dataset_mask() != 0 if indexed.image.masked else True
        values = class_indexes(label.read(1), DATA, label.nodata)
    shape = has_data.shape[0] + size, has_data.shape[1] + size
    wanted = np.zeros((2, *shape), np.float32), np.full(shape, IGNORE, np.uint8), np.zeros(shape, bool)
    inside = np.s_[: has_data.shape[0], : has_data.shape[1]]
    wanted[0][:, *inside] = np.where(has_data, pixels, 0)
    wanted[1][inside] = np.where(has_data, values, IGNORE)
    wanted[2][inside] = has_data
    return wanted


def check_equal(pairs: list[RasterPair], minibatch: Minibatch, size: int) -> None:
    """Every chip of a minibatch is, to the bit, what rasterio reads."""
    for slot, place in enumerate(minibatch.chips):
        image, label, valid = expected(pairs[place.raster], place, size)
        np.testing.assert_array_equal(minibatch.images[slot], image)
        np.testing.assert_array_equal(minibatch.labels[slot], label)
        np.testing.assert_array_equal(minibatch.valid[slot], valid)


def places(loader: ChipLoader) -> list[ChipPlace]:
    """The chips of the rest of the epoch, in order."""
    return [place for minibatch in loader for place in minibatch.chips]


def make_loader(source: RasterSource, chips: ChipList, **arguments: Any) -> ChipLoader:
    """A loader with small minibatches."""
    return ChipLoader(source, chips, **{"minibatch": 4, "seed": 5, "threads": 2, **arguments})
