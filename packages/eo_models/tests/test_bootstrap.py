from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_models.bootstrap import paired_bootstrap


def counts(*rows: tuple[int, int, int]) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def test_equal_models_differ_by_nothing() -> None:
    same = counts((5, 1, 2), (9, 0, 3), (0, 4, 0))
    interval = paired_bootstrap(same, same, resamples=500, seed=0)
    assert (interval.difference, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_difference_is_of_pooled_iou() -> None:
    first, second = counts((8, 2, 0), (1, 0, 9)), counts((5, 0, 5), (2, 0, 8))
    interval = paired_bootstrap(first, second, resamples=500, seed=0)
    assert interval.difference == pytest.approx(9 / 20 - 7 / 20)


def test_seed_decides() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 50, (2, 20, 3))
    again = paired_bootstrap(first, second, resamples=300, seed=4)
    assert paired_bootstrap(first, second, resamples=300, seed=4) == again
    assert paired_bootstrap(first, second, resamples=300, seed=5) != again


@pytest.mark.parametrize("cells", [0, 3])
def test_undefined_without_the_class(cells: int) -> None:
    nothing = np.zeros((cells, 3), dtype=np.int64)
    interval = paired_bootstrap(nothing, nothing, resamples=200, seed=0)
    assert (interval.difference, interval.low, interval.high) == (None, None, None)


def test_resamples_without_the_class_do_not_count() -> None:
    first, second = counts((10, 0, 0), *[(0, 0, 0)] * 9), counts((5, 0, 5), *[(0, 0, 0)] * 9)
    interval = paired_bootstrap(first, second, resamples=2000, seed=0)
    assert (interval.difference, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)

    def draw(cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        water = rng.integers(20, 200, cells)
        ease = rng.normal(0, 0.08, cells)  # a hard place is hard for both: what pairing takes out
        parts = []
        for recall in (0.80, 0.72):
            found = (water * np.clip(recall + ease + rng.normal(0, 0.03, cells), 0, 1)).astype(np.int64)
            parts.append(np.stack([found, rng.integers(0, 15, cells), water - found], axis=1))
        return parts[0], parts[1]

    large = draw(200_000)
    pooled = [part.sum(axis=0) for part in large]
    truth = float(pooled[0][0] / pooled[0].sum() - pooled[1][0] / pooled[1].sum())
    covered = 0
    for trial in range(200):
        interval = paired_bootstrap(*draw(30), resamples=400, seed=trial)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 200 <= 0.99
