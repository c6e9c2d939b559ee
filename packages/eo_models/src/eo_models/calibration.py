"""Probabilities held against labels: reliability, expected calibration error, precision over recall. Streaming."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.tiling import Pixels, Valid
from eo_data.usecase import IGNORE
from eo_models.confusion import TARGET
from eo_models.evaluation_record import Calibration, Curve, ReliabilityBin

FINE: Final = 1000
"""Bins in which probabilities are counted; thresholds of a curve are multiples of their width."""

BINS: Final = 10
"""Bins of the reliability diagram and of the expected calibration error."""

_STEP: Final = 10
"""Every so many fine bins a curve has a point."""


class ProbabilityCounts:
    """The target class's probability at scored pixels, counted chip by chip; memory does not grow with pixels."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, FINE), dtype=np.int64)  # by [not target, target]
        self._sums = np.zeros(FINE)
        self._squares = 0.0

    def update(self, probability: Pixels, valid: Valid, label: NDArray[np.uint8]) -> None:
        """Add a chip.

        Args:
            probability: `[classes, H, W]`, float32, adding up to 1.
            valid: Where the chip has data, `[H, W]`.
            label: Class indexes `[H, W]`, 255 not scored.
        """
        scored = valid & (label != IGNORE) & np.isfinite(probability).all(axis=0)
        given = probability[TARGET][scored].astype(np.float64)
        hit = label[scored] == TARGET
        place = np.clip((given * FINE).astype(np.intp), 0, FINE - 1)
        for row, chosen in enumerate((~hit, hit)):
            self._counts[row] += np.bincount(place[chosen], minlength=FINE)
        self._sums += np.bincount(place, weights=given, minlength=FINE)
        self._squares += float(((given - hit) ** 2).sum())

    def calibration(self, split: str) -> Calibration:
        """Reliability in ten bins of equal width.

        The expected calibration error is the mean over pixels of |observed - predicted| of their bin (Guo et al.
        2017, arXiv 1706.04599, of the target class's probability); the Brier score is the mean squared error.
        """
        grouped = self._counts.reshape(2, BINS, FINE // BINS).sum(axis=2)
        pixels = grouped.sum(axis=0)
        sums = self._sums.reshape(BINS, FINE // BINS).sum(axis=1)
        bins = [
            ReliabilityBin(
                low=k / BINS,
                high=(k + 1) / BINS,
                pixels=int(pixels[k]),
                predicted=_ratio(sums[k], pixels[k]),
                observed=_ratio(grouped[1, k], pixels[k]),
            )
            for k in range(BINS)
        ]
        total = int(pixels.sum())
        return Calibration(
            split=split,
            pixels=total,
            expected_error=_ratio(float(np.abs(grouped[1] - sums).sum()), total),
            brier=_ratio(self._squares, total),
            bins=tuple(bins),
        )

    def curve(self, split: str) -> Curve:
        """Precision over recall, for thresholds from 0 up; undefined where the label never holds the class."""
        positive, negative = (self._counts[row, ::-1].cumsum()[::-1] for row in (1, 0))
        total = int(positive[0])
        if not total:
            return Curve(split=split, average_precision=None, thresholds=(), precision=(), recall=())
        recall = positive / total
        precision = positive / np.maximum(positive + negative, 1)
        gained = recall - np.append(recall[1:], 0)
        shown = [k for k in range(0, FINE, _STEP) if positive[k] + negative[k]]
        return Curve(
            split=split,
            average_precision=round(float((gained * precision).sum()), 6),
            thresholds=tuple(k / FINE for k in shown),
            precision=tuple(round(float(precision[k]), 6) for k in shown),
            recall=tuple(round(float(recall[k]), 6) for k in shown),
        )


def _ratio(part: float, whole: float) -> float | None:
    return round(float(part) / float(whole), 6) if whole else None
