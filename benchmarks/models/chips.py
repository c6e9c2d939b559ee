"""Simulated chips that a network of the use case `water` can learn from, the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.scene import relief
from benchmarks.quality.handmade import Piece, write_dataset
from eo_data.dataset import Dataset
from eo_data.store import Store
from eo_data.usecase import UseCase, find_usecase

USECASES: Final = Path(__file__).resolve().parents[2] / "usecases"
SEED: Final = 20261102
CHIP: Final = 128

LAND: Final = (700, 1000, 1100, 2700, 2200, 1500)
WATER: Final = (650, 800, 600, 350, 180, 120)
"""Blue, green, red, nir, swir1, swir2: reflectance x 10000."""

ROUGHNESS: Final = 260
NOISE: Final = 60
SHARE: Final = 0.3
"""Of water."""


def water() -> UseCase:
    """The use case `water` as it is shipped."""
    return UseCase.load(str(find_usecase(str(USECASES / "water"))))


def make_scene(size: int, seed: int = SEED) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Pixels `[6, size, size]`, reflectance x 10000, and label `[size, size]`, 1 for water."""
    rng = np.random.default_rng([seed, size])
    height, terrain = relief(size, rng), relief(size, rng)
    label = (height < np.quantile(height, SHARE)).astype(np.uint8)
    spectra = np.where(label, np.array(WATER)[:, None, None], np.array(LAND)[:, None, None])
    rough = np.where(label, 0.15, 1.0) * ROUGHNESS * terrain
    pixels = spectra + rough + rng.normal(0, NOISE, spectra.shape)
    return np.clip(np.rint(pixels), 1, 10_000).astype(np.int16), label


def make_dataset(folder: Path, chips: int, usecase: UseCase) -> Dataset:
    """A dataset of that many training chips and one for validation."""
    side = int(np.ceil(np.sqrt(chips + 1)))
    pixels, label = make_scene(side * CHIP)
    pieces = []
    for number in range(chips + 1):
        top, left = number // side * CHIP, number % side * CHIP
        part = np.s_[top : top + CHIP, left : left + CHIP]
        pieces.append(
            Piece(
                name=f"chip-{number:04d}",
                split="train" if number < chips else "validation",
                cell=f"cell-{number:04d}",
                image=pixels[:, part[0], part[1]],
                label=label[part],
            )
        )
    return write_dataset(Store(str(folder)), usecase, pieces)
