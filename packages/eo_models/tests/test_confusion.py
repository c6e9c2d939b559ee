from __future__ import annotations

import numpy as np

from eo_models.confusion import Counts, count, pool


def test_counts_of_a_mask() -> None:
    label = np.array([[1, 1, 0, 0, 255, 1]], dtype=np.uint8)
    mask = np.array([[1, 0, 1, 0, 1, 255]], dtype=np.uint8)
    assert count(mask, label) == Counts(tp=1, fp=1, fn=1, tn=1)


def test_figures_are_undefined_where_there_is_nothing() -> None:
    nothing = Counts(tn=10)
    assert nothing.figures() == {"iou": None, "f1": None, "precision": None, "recall": None}


def test_a_false_alarm_on_dry_land_is_zero_not_undefined() -> None:
    assert Counts(fp=3, tn=7).figures() == {"iou": 0.0, "f1": 0.0, "precision": 0.0, "recall": None}


def test_missed_water_is_zero() -> None:
    assert Counts(fn=3, tn=7).figures() == {"iou": 0.0, "f1": 0.0, "precision": None, "recall": 0.0}


def test_pooled_is_not_the_mean() -> None:
    parts = [Counts(tp=90, fn=10), Counts(tp=0, fp=1, tn=99), Counts(tn=100)]
    assert pool(parts) == Counts(tp=90, fp=1, fn=10, tn=199)
    assert pool(parts).iou == 90 / 101


def test_figures_agree_with_their_definitions() -> None:
    counts = Counts(tp=6, fp=2, fn=4, tn=8)
    assert counts.figures() == {"iou": 6 / 12, "f1": 12 / 18, "precision": 6 / 8, "recall": 6 / 10}
