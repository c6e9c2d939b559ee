"""A minibatch's memory: chips go into it straight from their blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import UsageError
from eo_data.loader.sources import Cut
from eo_data.usecase import IGNORE


@dataclass(frozen=True)
class Affine:
    """What a raster's pixels become: pixel * gain + shift, `[bands, 1, 1]`; None where a step changes nothing."""

    gain: NDArray[np.float32] | None
    shift: NDArray[np.float32] | None

    @classmethod
    def per_raster(
        cls,
        rules: Sequence[tuple[float, float]],
        bands: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> list[Affine]:
        """One for each raster: reflectance x 10000, or (reflectance x 10000 - mean) / std in one step.

        Without normalisation the steps are those of `Radiometry.reflectance`, to the last bit.

        Raises:
            UsageError: If mean and std are not one finite number per band, std above 0.
        """
        if (mean is None) != (std is None):
            raise UsageError("mean and std go together", where="mean, std", fix="Give both or none")
        means = np.zeros(bands) if mean is None else np.array(mean, dtype=np.float64)
        stds = np.ones(bands) if std is None else np.array(std, dtype=np.float64)
        if means.shape != (bands,) or stds.shape != (bands,):
            raise UsageError(
                f"{means.size} means and {stds.size} deviations for {bands} bands",
                where="mean, std",
                fix="One per band",
            )
        if not (np.isfinite(means).all() and np.isfinite(stds).all() and (stds > 0).all()):
            raise UsageError("a mean or deviation is impossible", where="mean, std", fix="Deviations are above 0")
        return [cls(_unless(1.0, gain / stds), _unless(0.0, (shift - means) / stds)) for gain, shift in rules]


def _unless(idle: float, values: NDArray[np.float64]) -> NDArray[np.float32] | None:
    return None if (values == idle).all() else values.astype(np.float32)[:, None, None]


class MinibatchBuffer:
    """Arrays of a minibatch.

    Args:
        count: Chips.
        bands: Bands of a chip.
        size: Side of a chip, pixels.
    """

    def __init__(self, count: int, bands: int, size: int) -> None:
        self.images = np.empty((count, bands, size, size), dtype=np.float32)
        self.labels = np.empty((count, size, size), dtype=np.uint8)
        self.valid = np.empty((count, size, size), dtype=np.bool_)
        self._full = [False] * count  # whose `valid` says True everywhere; readers cannot change that
        self._plain = np.empty(0, dtype=np.uint8)

    def first(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
        """Images, labels and valid of the first chips; valid is read-only."""
        valid = self.valid[:count]
        valid.flags.writeable = False
        return self.images[:count], self.labels[:count], valid

    def fill(self, slot: int, cut: Cut, affine: Affine) -> None:
        """Write a chip; what lies beyond the raster is 0, 255 and not valid."""
        image, label, valid = self.images[slot], self.labels[slot], self.valid[slot]
        rows, columns = cut.pixels.shape[1:]
        if (rows, columns) != label.shape:
            image[...], label[...], valid[...] = 0, IGNORE, False
            image, label, valid = image[:, :rows, :columns], label[:rows, :columns], valid[:rows, :columns]
        self._convert(image, cut.pixels, affine)
        np.copyto(label, IGNORE if cut.label is None else cut.label)
        full = cut.valid is None and image.shape == self.images.shape[1:]
        if cut.valid is not None:
            np.copyto(valid, cut.valid)
            np.copyto(image, np.float32(0), where=~cut.valid)
        elif not (full and self._full[slot]):
            valid.fill(True)
        self._full[slot] = full

    def _convert(self, image: NDArray[np.float32], pixels: NDArray[Any], affine: Affine) -> None:
        """Cast and scale."""
        if not pixels.flags.c_contiguous:
            # NumPy casts rows of a larger array two to three times slower than one piece, and copies them fast.
            plain = self._room(pixels)
            np.copyto(plain, pixels)
            pixels = plain
        np.copyto(image, pixels, casting="unsafe")
        if affine.gain is not None:
            np.multiply(image, affine.gain, out=image)
        if affine.shift is not None:
            np.add(image, affine.shift, out=image)

    def _room(self, like: NDArray[Any]) -> NDArray[Any]:
        """A piece of memory for a chip, the same for all: it stays in cache."""
        if len(self._plain) < like.nbytes:
            self._plain = np.empty(like.nbytes, dtype=np.uint8)
        return self._plain[: like.nbytes].view(like.dtype).reshape(like.shape)
