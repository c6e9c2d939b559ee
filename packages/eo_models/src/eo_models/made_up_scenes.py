"""Scenes for behavioural tests: real chips side by side, and simulated ones of cloud and of snow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.bands import band_key
from eo_data.dataset import ChipRecord, Dataset, model_input
from eo_data.simulate.spectra import BANDS, CLOUD, SURFACE, Material
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import DataSection

SPECTRA: Final[dict[str, NDArray[np.float32]]] = {"cloud": CLOUD, "snow": SURFACE[Material.SNOW]}
"""Reflectance by the simulator's bands."""


def mosaic(dataset: Dataset, chips: Sequence[ChipRecord], side: int) -> tuple[Pixels, Valid]:
    """A square of at least `side` pixels made of chips, evenly over their order, whatever their labels.

    The same ones come again where they do not suffice. Where chips meet the picture jumps; that does not matter
    where predictions of the same pixels are compared.

    Args:
        dataset: Whose chips.
        chips: One at least.
        side: Pixels.
    """
    size = dataset.manifest.chip_size
    across = math.ceil(side / size)
    count = across**2
    chosen = [chips[k * len(chips) // count] for k in range(count)] if len(chips) > count else chips
    images = [dataset.read(chosen[k % len(chosen)])[0] for k in range(count)]
    rows = [np.concatenate(images[k : k + across], axis=2) for k in range(0, across**2, across)]
    return model_input(np.concatenate(rows, axis=1))


def uniform_scene(kind: str, data: DataSection, side: int) -> Pixels | None:
    """A simulated scene of one material, reflectance x 10000 `[bands, side, side]`: its spectrum, lit unevenly.

    Args:
        kind: One of `SPECTRA`.
        data: Whose input bands; they are found by their names among the simulator's.
        side: Pixels.

    Returns:
        None where the simulator does not know one of the bands.
    """
    by_name = {band_key(band.common_name): value for band, value in zip(BANDS, SPECTRA[kind], strict=True)}
    spectrum = []
    for band in data.input_bands:
        hit = next((value for name, value in by_name.items() if name in band.keys), None)
        if hit is None:
            return None
        spectrum.append(hit)
    rng = np.random.default_rng(0)
    wave = np.sin(np.linspace(0, 5, side))
    light = 1 + 0.08 * np.add.outer(wave, wave[::-1]) / 2 + rng.normal(0, 0.01, (side, side))
    scene = np.array(spectrum)[:, None, None] * light[None] * (1 + rng.normal(0, 0.005, (len(spectrum), side, side)))
    return np.rint(scene * 10_000).astype(np.float32)
