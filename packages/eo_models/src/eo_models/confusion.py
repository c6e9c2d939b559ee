"""Counts of one class against the rest, and the figures made of them; an undefined figure is None, never 0 or 1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.usecase import IGNORE

TARGET: Final = 1
"""Index of the class that is scored (`water`); class 0 is what is not it."""


@dataclass(frozen=True)
class Counts:
    """Pixels by prediction and label of one class.

    Attributes:
        tp: Predicted and labelled.
        fp: Predicted, not labelled.
        fn: Labelled, not predicted.
        tn: Neither.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def iou(self) -> float | None:
        """Intersection over union; None where the class is neither predicted nor labelled."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def f1(self) -> float | None:
        """F1; None where the class is neither predicted nor labelled."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """Share of what is predicted that is right; None where nothing is predicted."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Share of what is labelled that is found; None where nothing is labelled."""
        return _ratio(self.tp, self.tp + self.fn)

    def as_list(self) -> list[int]:
        """`[tp, fp, fn, tn]`."""
        return [self.tp, self.fp, self.fn, self.tn]

    def figures(self) -> dict[str, float | None]:
        """`iou`, `f1`, `precision` and `recall`."""
        return {"iou": self.iou, "f1": self.f1, "precision": self.precision, "recall": self.recall}


def count(mask: NDArray[np.uint8], label: NDArray[np.uint8], target: int = TARGET) -> Counts:
    """Counts of one mask against its label, both class indexes `[...]`.

    Pixels that the label does not score (255) or that have no data (mask 255) do not count.
    """
    scored = (label != IGNORE) & (mask != IGNORE)
    predicted, labelled = mask[scored] == target, label[scored] == target
    tp = int(np.count_nonzero(predicted & labelled))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(labelled)) - tp
    return Counts(tp, fp, fn, int(predicted.size) - tp - fp - fn)


def pool(parts: Iterable[Counts]) -> Counts:
    """All counts together: pooled figures are not means of figures."""
    return sum(parts, Counts())


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
