"""The scene that is loaded: simulated, Sentinel-2-like in how it compresses, the same for the same seed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from eo_data.usecase import SPLITS

BANDS: Final = ("blue", "green", "red", "nir", "swir1", "swir2")
CLASSES: Final = ("water", "forest", "crops", "grass", "bare")
SEED: Final = 20261101
TILE: Final = 512

_LEVEL: Final = (900, 1100, 1200, 2600, 2100, 1500)
_TERRAIN: Final = (180, 220, 300, 520, 480, 400)
_COVER: Final = (60, 80, 120, -500, 260, 220)
_NOISE: Final = 9.0
"""Per band, reflectance x 10000: level, relief of the terrain, how land cover moves it; sensor noise."""

PROFILE: Final[dict[str, Any]] = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": TILE,
    "blockysize": TILE,
    "compress": "deflate",
    "predictor": 2,
    "interleave": "band",
    "crs": "EPSG:32630",
    "transform": Affine(10, 0, 400_000, 0, -10, 4_400_000),
}

USECASE: Final[dict[str, Any]] = {
    "title": "benchmark",
    "data": {
        "sensor": "simulated",
        "bands": [{"name": name} for name in BANDS],
        "inputs": list(BANDS),
        "reflectance": {"scale": 0.0001, "offset": -0.1, "nodata": 0},
        "classes": [
            {"name": name, "color": f"#{40 * index:02x}80c0", "label_values": [index + 1]}
            for index, name in enumerate(CLASSES)
        ],
        "ignore_label_values": [0],
        "chip": {"size": 256, "min_valid_fraction": 0.1},
        "expectations": {"crs": "any"},
        "split": {
            "salt": "benchmark",
            "fractions": {"train": 0.4, "validation": 0.2, "holdout": 0.2, "test": 0.2},
            "lists": {"train": "train", "validation": "validation", "holdout": "holdout", "test": "test"},
        },
    },
}
"""The use case's file: like Sentinel-2 from processing baseline 04.00 on, values are offset by 1000."""


def relief(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A surface of 1/f amplitude as terrain has, mean 0, deviation 1, `[size, size]`."""
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    frequency = np.hypot(rows, columns).astype(np.float32)
    frequency[0, 0] = 1
    phase = rng.random(frequency.shape, dtype=np.float32) * np.float32(2 * np.pi)
    spectrum = np.exp(1j * phase).astype(np.complex64) / np.power(frequency, np.float32(1.5))
    spectrum[0, 0] = 0
    surface: NDArray[np.float32] = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    surface /= surface.std()
    return surface


def make_scene(folder: Path, size: int) -> tuple[Path, Path]:
    """Write `images/scene.tif` (`[6, size, size]` uint16) and `labels/scene.tif` (uint8); their paths."""
    rng = np.random.default_rng([SEED, size])
    terrain, cover, detail = (relief(size, rng) for _ in range(3))
    fields = np.clip(np.floor(cover * 1.6 + 2.5), 0, len(CLASSES) - 1).astype(np.uint8)
    image, label = folder / "images" / "scene.tif", folder / "labels" / "scene.tif"
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"width": size, "height": size}
    with rasterio.open(image, "w", **PROFILE, **shape, count=len(BANDS), dtype="uint16", nodata=0) as dataset:
        for number, name in enumerate(BANDS, start=1):
            parts = (_LEVEL[number - 1], _TERRAIN[number - 1], _COVER[number - 1])
            noise = rng.standard_normal((size, size), dtype=np.float32) * np.float32(_NOISE)
            values = (
                1000 + parts[0] + parts[1] * terrain + 60 * detail + parts[2] * (fields - np.float32(2)) / 2 + noise
            )
            dataset.write(np.clip(np.rint(values), 1, 16000).astype(np.uint16), number)
            dataset.set_band_description(number, name)
    with rasterio.open(label, "w", **PROFILE, **shape, count=1, dtype="uint8", nodata=0) as dataset:
        dataset.write(fields + np.uint8(1), 1)
    return image, label


def cut_quarters(image: Path, label: Path, folder: Path, unit: int) -> None:
    """Write the quarters of a scene as scenes without CRS, one per split, their sides multiples of `unit`.

    Split by a list and not by place, no chip is lost on the border of two splits.
    """
    for kind, path in (("images", image), ("labels", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        with rasterio.open(path) as source, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            side = source.height // 2 // unit * unit
            profile = {key: value for key, value in PROFILE.items() if key not in ("crs", "transform")}
            profile |= {"width": side, "height": side, "count": source.count, "dtype": source.dtypes[0], "nodata": 0}
            for number in range(len(SPLITS)):
                window = Window(number % 2 * side, number // 2 * side, side, side)
                with rasterio.open(folder / kind / f"{SPLITS[number]}.tif", "w", **profile) as target:
                    target.write(source.read(window=window))
                    target.descriptions = source.descriptions
    for split in SPLITS:
        rows = f"image,label\nimages/{split}.tif,labels/{split}.tif\n"
        (folder / f"{split}.csv").write_text(rows, encoding="utf-8")


def compression(path: Path) -> float:
    """How many times larger a raster is than its file."""
    with rasterio.open(path) as dataset:
        plain = dataset.count * dataset.height * dataset.width * np.dtype(dataset.dtypes[0]).itemsize
    return float(plain / path.stat().st_size)
