"""Bootstrap over cells: how sure a pooled IoU, or a difference of two, is, given the places it was measured at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A difference of pooled IoU, first minus second, with its 95 % interval; None is undefined.

    Attributes:
        difference: On the cells as they are.
        low: 2.5 % quantile over the resamples.
        high: 97.5 % quantile over the resamples.
    """

    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Bounds:
    """The 95 % interval of a pooled IoU; None is undefined.

    Attributes:
        low: 2.5 % quantile over the resamples.
        high: 97.5 % quantile over the resamples.
    """

    low: float | None
    high: float | None


def pooled_bounds(counts: NDArray[np.int64], *, resamples: int, seed: int) -> Bounds:
    """The interval of one model's pooled IoU, cells resampled as in `paired_bootstrap`.

    Args:
        counts: `[cells, 3]`: tp, fp, fn per cell.
        resamples: How many times.
        seed: Equal seeds give equal intervals.
    """
    if not len(counts):
        return Bounds(None, None)
    return Bounds(*_quantiles(_iou(_weights(len(counts), resamples, seed) @ counts)))


def paired_bootstrap(first: NDArray[np.int64], second: NDArray[np.int64], *, resamples: int, seed: int) -> Interval:
    """Resample cells with replacement, both models on the same cells each time.

    Cells, not pixels or chips, are drawn: pixels of one place resemble each other and are no independent
    evidence. A resample in which an IoU is undefined (no cell with the class in it) does not count.

    Args:
        first: `[cells, 3]`: tp, fp, fn of the first model per cell.
        second: The same of the second model.
        resamples: How many times.
        seed: Equal seeds give equal intervals.
    """
    cells = len(first)
    if not cells:
        return Interval(None, None, None)
    difference = _difference(first.sum(axis=0)[None], second.sum(axis=0)[None])
    weights = _weights(cells, resamples, seed)
    low, high = _quantiles(_difference(weights @ first, weights @ second))
    if not np.isfinite(difference[0]) or low is None:
        return Interval(None, None, None)
    return Interval(float(difference[0]), low, high)


def _weights(cells: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each cell is drawn, `[resamples, cells]`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(cells, np.full(cells, 1 / cells), size=resamples)


def _quantiles(drawn: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The interval's ends over the resamples that are defined; None where none is."""
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return float(low), float(high)


def _difference(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of the first minus that of the second, of counts `[n, 3]`; NaN where one is undefined."""
    return _iou(first) - _iou(second)


def _iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    union = counts.sum(axis=1).astype(np.float64)
    result: NDArray[np.float64] = np.divide(counts[:, 0], union, out=np.full(len(union), np.nan), where=union > 0)
    return result
