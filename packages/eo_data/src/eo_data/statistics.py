"""Statistics of the training split, gathered chip by chip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import Statistics, model_input
from eo_data.errors import DataRefused


class RunningStatistics:
    """Mean and standard deviation per band over pixels with data, and scored pixels per class, in float64.

    Args:
        bands: How many bands.
        classes: How many classes.
    """

    def __init__(self, bands: int, classes: int) -> None:
        self._sum = np.zeros(bands)
        self._squares = np.zeros(bands)
        self._pixels = 0
        self._classes = np.zeros(classes, dtype=np.int64)

    def update(self, image: NDArray[np.int16], label: NDArray[np.uint8]) -> None:
        """Add a chip: image `[bands, H, W]`, label `[H, W]`."""
        pixels, valid = model_input(image)
        values = pixels[:, valid].astype(np.float64)
        self._sum += values.sum(axis=1)
        self._squares += np.square(values).sum(axis=1)
        self._pixels += values.shape[1]
        self._classes += np.array([(label == k).sum() for k in range(len(self._classes))])

    def result(self) -> Statistics:
        """The statistics so far.

        Raises:
            DataRefused: If no pixel had data.
        """
        if not self._pixels:
            raise DataRefused("the training split has no pixel with data", where="dataset", fix="Bring other scenes")
        mean = self._sum / self._pixels
        variance = np.maximum(self._squares / self._pixels - np.square(mean), 0)
        return Statistics(
            mean=tuple(float(value) for value in mean.round(4)),
            # A constant band carries nothing; 1 keeps the normalisation finite.
            std=tuple(float(value) for value in np.maximum(np.sqrt(variance), 1.0).round(4)),
            pixels=self._pixels,
            class_counts=tuple(int(count) for count in self._classes),
        )
