"""Which training chips show one place: HLS chips have no georeference, so their pixels must say it.

Many chips show a place that another chip shows on another date, some a neighbouring window of it. Fields, roads
and banks stay where they are, hence the fine structure of two such chips correlates at some shift: near 1 for one
window on two dates, 0.4 and more for windows that overlap, and 0.1 to 0.3 for different places, whose structure has
nothing in common. Any cut between 0.45 and 0.5 gives the same 53 places of the 122 training chips. The labels and
the identities of the chips are not looked at.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SAME_PLACE: Final = 0.5
"""Chips whose structure correlates by more than this, in one of the bands, show one place."""

_COARSE: Final = 6
"""Structure coarser than this many pixels is left out: haze, season and light make it."""


def places(images: NDArray[np.int16], bands: tuple[int, ...]) -> NDArray[np.intp]:
    """A number of the place for each chip: chips that are linked, directly or by way of others, share it.

    Args:
        images: `[n, bands, size, size]`.
        bands: Those whose structure is compared.
    """
    alike = np.max([similarity(images[:, band].astype(np.float64)) for band in bands], axis=0) > SAME_PLACE
    numbers = np.full(len(images), -1, dtype=np.intp)
    for first in range(len(images)):
        if numbers[first] >= 0:
            continue
        linked = np.zeros(len(images), dtype=bool)
        linked[first] = True
        while (grown := linked | alike[linked].any(axis=0)).sum() > linked.sum():
            linked = grown
        numbers[linked] = numbers.max() + 1
    return numbers


def similarity(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Greatest correlation over all shifts, `[n, n]`, of the fine structure of one-band chips `[n, size, size]`."""
    size = images.shape[-1]
    window = np.outer(np.hanning(size), np.hanning(size))
    fine = np.stack([_fine(image) * window for image in images])
    spectra = np.fft.rfft2(fine)
    norm = np.sqrt(np.square(fine).sum(axis=(1, 2)))
    result = np.empty((len(images), len(images)))
    for row, spectrum in enumerate(spectra):
        shifted = np.fft.irfft2(spectrum.conj() * spectra, s=(size, size))
        result[row] = shifted.reshape(len(images), -1).max(axis=1) / (norm[row] * norm + 1e-9)
    return result


def folds(numbers: NDArray[np.intp], water: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Deal whole places to folds that are alike in chips and in water, `[n]`.

    Args:
        numbers: The place of each chip.
        water: Its share of water.
        count: How many folds.
    """
    chips = np.bincount(numbers)
    wet = np.bincount(numbers, weights=water)
    chosen = np.zeros(len(chips), dtype=np.intp)
    load = np.zeros(count)
    for place in np.lexsort((-wet, -chips)):  # the largest first, each to the emptiest
        chosen[place] = int(np.argmin(load))
        load[chosen[place]] += chips[place] / chips.sum() + wet[place] / wet.sum()
    return chosen[numbers]


def _fine(image: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.quantile(image, [0.02, 0.98])
    clipped = np.clip(image, low, high)
    rows, columns = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])[None]
    kept = 1 - np.exp(-2 * (np.pi * _COARSE) ** 2 * (rows**2 + columns**2))  # what a Gaussian blur would take away
    fine = np.fft.irfft2(np.fft.rfft2(clipped) * kept, s=image.shape)
    result: NDArray[np.float64] = (fine - fine.mean()) / (fine.std() + 1e-6)
    return result
