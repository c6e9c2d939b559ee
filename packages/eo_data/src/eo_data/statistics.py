"""Statistics of the training split, gathered chip by chip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import Statistics, model_input
from eo_data.errors import DataRefused


class RunningStatistics:
    """Mean and standard deviation per band over pixels with data, and scored pixels per class.

    Sums of int16 values and of their squares are kept as whole numbers: nothing is rounded before the end, and
    the order of chips and parts cannot matter.

    Args:
        bands: How many bands.
        classes: How many classes.
    """

    def __init__(self, bands: int, classes: int) -> None:
        self._sums = [0] * bands
        self._squares = [0] * bands
        self._pixels = 0
        self._classes = [0] * classes

    def update(self, image: NDArray[np.int16], label: NDArray[np.uint8]) -> None:
        """Add a chip: image `[bands, H, W]`, at most 2^23 pixels; label `[H, W]`."""
        _, valid = model_input(image)
        values = image[:, valid].astype(np.float64)  # its sums are whole numbers below 2^53: exact
        sums, squares = values.sum(axis=1), np.einsum("bn,bn->b", values, values)
        counts = [int((label == k).sum()) for k in range(len(self._classes))]
        self._add([int(v) for v in sums], [int(v) for v in squares], values.shape[1], counts)

    def merge(self, other: RunningStatistics) -> None:
        """Add what another has gathered."""
        self._add(other._sums, other._squares, other._pixels, other._classes)

    def result(self) -> Statistics:
        """The statistics so far.

        Raises:
            DataRefused: If no pixel had data.
        """
        number = self._pixels
        if not number:
            raise DataRefused("the training split has no pixel with data", where="dataset", fix="Bring other scenes")
        variances = [
            (number * square - total**2) / number**2 for total, square in zip(self._sums, self._squares, strict=True)
        ]
        return Statistics(
            mean=tuple(round(total / number, 4) for total in self._sums),
            # A constant band carries nothing; 1 keeps the normalisation finite.
            std=tuple(round(max(float(np.sqrt(variance)), 1.0), 4) for variance in variances),
            pixels=number,
            class_counts=tuple(self._classes),
        )

    def _add(self, sums: list[int], squares: list[int], pixels: int, classes: list[int]) -> None:
        self._sums = [own + more for own, more in zip(self._sums, sums, strict=True)]
        self._squares = [own + more for own, more in zip(self._squares, squares, strict=True)]
        self._pixels += pixels
        self._classes = [own + more for own, more in zip(self._classes, classes, strict=True)]
