"""Small scenes, good and bad, as files on disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.errors import NotGeoreferencedWarning

from eo_data.cells import centre_of_cell
from eo_data.store import Store
from eo_data.usecase import UseCase

ROOT = Path(__file__).parents[3]
S2_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


@pytest.fixture(autouse=True)
def _usecases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRALOOP_USECASES", str(ROOT / "usecases"))


@pytest.fixture
def water() -> UseCase:
    """The Sentinel-2 use case."""
    return UseCase.load("water")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(str(tmp_path / "store"))


@pytest.fixture
def test_data() -> Path:
    """The real scenes, or a skip that says where they were looked for."""
    folder = Path(os.environ.get("TERRALOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set TERRALOOP_TEST_DATA")
    return folder


def write_tiff(
    path: Path,
    pixels: NDArray[np.generic],
    *,
    crs: str | None = "EPSG:32630",
    origin: tuple[float, float] = (500_000.0, 4_200_000.0),
    step: float = 10.0,
    names: tuple[str, ...] = (),
    nodata: float | None = None,
    transform: Affine | None = None,
    **profile: Any,
) -> Path:
    """Write pixels `[bands, H, W]` as a GeoTIFF on a north-up grid, or on the transform's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels.shape
    if transform is None:
        transform = Affine(step, 0, origin[0], 0, -step, origin[1]) if crs else Affine.identity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, crs=crs, transform=transform,
            nodata=nodata, **{"dtype": pixels.dtype, "compress": "deflate", **profile},
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
            for number, name in enumerate(names, start=1):
                dataset.set_band_description(number, name)
    return path


def lonely_origin(number: int, size: int = 128) -> tuple[float, float]:
    """The upper left corner, in EPSG:32630, of a scene in the middle of a cell of its own, 40 km from the next."""
    there = Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True)
    place = there.transform(300_000.0 + 40_000 * (number % 10), 4_000_000.0 + 60_000 * (number // 10))
    x, y = there.transform(*centre_of_cell(*place, 5120.0), direction="INVERSE")
    return round(x / 10 - size // 2) * 10.0, round(y / 10 + size // 2) * 10.0


def water_scene(seed: int, size: int = 128, bands: int = 13) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """A scene of two halves, dark water and bright land, with noise; its label."""
    rng = np.random.default_rng(seed)
    label = np.zeros((size, size), dtype=np.uint8)
    label[:, : size // 3] = 1
    land = 1500 + 150 * np.arange(bands)[:, None, None] + rng.normal(0, 40, (bands, size, size))
    pixels = np.where(label == 1, 700 - 40 * np.arange(bands)[:, None, None], land)
    return np.clip(pixels, 1, 65535).astype(np.uint16), label


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[[int], Path]:
    """Make a folder of labelled scenes, each in a cell of its own, so that they fall on all sides."""

    def make(count: int, name: str = "pairs") -> Path:
        root = tmp_path / name
        for k in range(count):
            pixels, label = water_scene(k)
            origin = lonely_origin(k)
            write_tiff(root / "images" / f"s{k:02d}.tif", pixels, origin=origin, names=S2_BANDS, nodata=0)
            write_tiff(root / "labels" / f"s{k:02d}.tif", label[None], origin=origin, nodata=255)
        return root

    return make
