"""Probabilities against labels: what comes out must be what a plain computation over all pixels gives."""

from __future__ import annotations

import numpy as np
import pytest

from eo_models.calibration import ProbabilityCounts


def gathered(water: np.ndarray, label: np.ndarray, parts: int = 1) -> ProbabilityCounts:
    """Counts of probabilities `[n]` and labels `[n]`, fed in parts."""
    counts = ProbabilityCounts()
    for some, labels in zip(np.array_split(water, parts), np.array_split(label, parts), strict=True):
        probability = np.stack([1 - some, some]).astype(np.float32)[:, None]
        counts.update(probability, np.ones((1, some.size), dtype=bool), labels[None].astype(np.uint8))
    return counts


def test_probabilities_that_come_true_as_often_as_they_say_have_no_error() -> None:
    water = np.repeat([0.25, 0.75], 400)
    label = np.concatenate([np.arange(400) % 4 == 0, np.arange(400) % 4 != 0])
    result = gathered(water, label).calibration("test")
    assert result.expected_error == pytest.approx(0, abs=1e-6)
    assert result.brier == pytest.approx(0.1875)
    assert [(b.low, b.pixels, b.predicted, b.observed) for b in result.bins if b.pixels] == [
        (0.2, 400, 0.25, 0.25),
        (0.7, 400, 0.75, 0.75),
    ]


def test_the_error_is_the_mean_gap_of_the_bins_weighed_by_pixels() -> None:
    water = np.concatenate([np.full(300, 0.95), np.full(100, 0.15)])
    label = np.concatenate([np.arange(300) < 150, np.zeros(100)])
    assert gathered(water, label).calibration("test").expected_error == pytest.approx((300 * 0.45 + 100 * 0.15) / 400)


def test_the_curve_is_that_of_every_threshold() -> None:
    rng = np.random.default_rng(1)
    label = rng.random(5000) < 0.3
    water = np.clip(0.3 * label + 0.7 * rng.random(5000), 0, 1)
    curve = gathered(water, label, parts=7).curve("test")
    for threshold, precision, recall in zip(curve.thresholds, curve.precision, curve.recall, strict=True):
        predicted = water.astype(np.float32).astype(np.float64) >= threshold
        assert precision == pytest.approx((predicted & label).sum() / predicted.sum(), abs=1e-5)
        assert recall == pytest.approx((predicted & label).sum() / label.sum(), abs=1e-5)
    order = np.argsort(-water)
    expected = (np.cumsum(label[order]) / np.arange(1, 5001))[label[order]].mean()
    assert curve.average_precision == pytest.approx(expected, abs=2e-3)


def test_fed_chip_by_chip_or_at_once_is_the_same() -> None:
    rng = np.random.default_rng(2)
    water, label = rng.random(999), rng.integers(0, 2, 999)
    assert gathered(water, label, parts=9).curve("test") == gathered(water, label).curve("test")
    assert gathered(water, label, parts=9).calibration("test") == gathered(water, label).calibration("test")


def test_without_a_scored_pixel_everything_is_undefined() -> None:
    counts = ProbabilityCounts()
    probability = np.full((2, 4, 4), 0.5, dtype=np.float32)
    counts.update(probability, np.ones((4, 4), dtype=bool), np.full((4, 4), 255, dtype=np.uint8))
    counts.update(probability, np.zeros((4, 4), dtype=bool), np.ones((4, 4), dtype=np.uint8))
    counts.update(np.full((2, 4, 4), np.nan, dtype=np.float32), np.ones((4, 4), dtype=bool), np.ones((4, 4), np.uint8))
    calibration, curve = counts.calibration("test"), counts.curve("test")
    assert (calibration.pixels, calibration.expected_error, calibration.brier) == (0, None, None)
    assert all(b.observed is None for b in calibration.bins)
    assert (curve.average_precision, curve.recall) == (None, ())


def test_without_the_class_in_the_labels_there_is_no_curve_but_an_error() -> None:
    counts = gathered(np.full(10, 0.35), np.zeros(10))
    assert counts.curve("test").average_precision is None
    assert counts.calibration("test").expected_error == pytest.approx(0.35)
