"""Sampling: how often each chip is drawn in training, from the index alone.

A chip `i` has `n[i, k]` scored pixels of class `k` and the valid fraction `v[i]`. Of all scored pixels the share
`f[k]` is of class `k`; its wanted share is

    t[k] = f[k] ** (1 - balance) / sum over the classes present          (0: as they are; 1: all classes alike)

and the weight of a chip, before weights are divided by their sum,

    w[i] = v[i] ** valid * sum over k of (n[i, k] / sum of n[i]) * t[k] / f[k]

the importance weight of its mean pixel. With `valid` 1 that is: draw a class by `t`, then a chip by its share of that
class's pixels. Where chips hold one class each, classes are drawn exactly by `t`; where they mix, a rare class comes
as close as its chips allow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord
from eo_data.errors import DataRefused, UsageError


def sampling_weights(chips: Sequence[ChipRecord], *, balance: float = 0.0, valid: float = 0.0) -> NDArray[np.float64]:
    """The probability of each chip per draw, in the chips' order; they add up to 1.

    Args:
        chips: The index, as a rule of the training split.
        balance: From 0, classes as frequent as they are, to 1, all classes alike.
        valid: From 0, all chips alike however little of them is scored, to 1, in proportion to what is.

    Raises:
        UsageError: If `balance` or `valid` is not between 0 and 1.
        DataRefused: If there is no chip, or none with a scored pixel.
    """
    for name, value in (("balance", balance), ("valid", valid)):
        if not 0 <= value <= 1:
            raise UsageError(f"{value:g} is not between 0 and 1", where=name, fix="0 is off, 1 is full")
    counts = np.array([chip.class_counts for chip in chips], dtype=np.float64)
    if not counts.sum():
        raise DataRefused("no chip has a scored pixel", where="chips", fix="Bring labelled scenes")
    frequency = counts.sum(axis=0) / counts.sum()
    present = frequency > 0
    wanted = np.where(present, np.where(present, frequency, 1.0) ** (1 - balance), 0.0)
    gain = np.divide(wanted / wanted.sum(), frequency, out=np.zeros_like(frequency), where=present)
    scored = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, scored, out=np.zeros_like(counts), where=scored > 0)
    fractions = np.array([chip.valid_fraction for chip in chips], dtype=np.float64)
    weights = np.where(scored[:, 0] > 0, fractions**valid, 0.0) * (shares @ gain)
    total: NDArray[np.float64] = weights / weights.sum()
    return total


def draw(weights: NDArray[np.float64], n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Which chips an epoch shows, in its order: `n` numbers of chips; equal arguments give equal draws.

    Systematic sampling: chip `i` comes `n * weights[i]` times, rounded up or down at random, so that little is left
    to luck. With equal weights and as many draws as chips, each chip comes once: a plain shuffle.

    Args:
        weights: Of each chip (see `sampling_weights`); they add up to 1.
        n: How many draws.
        seed: Of the training.
        epoch: Its number.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(weights))  # whose neighbour a chip is must not tie them together
    edges = np.cumsum(weights[order])
    # A thousandth of a step away from the edges of equal weights: rounding in their sum moves no point across.
    points = (rng.random() * 0.998 + 0.001 + np.arange(n)) / n * edges[-1]
    found = order[np.minimum(np.searchsorted(edges, points, side="right"), len(weights) - 1)]
    drawn: NDArray[np.int64] = rng.permutation(found).astype(np.int64)
    return drawn
