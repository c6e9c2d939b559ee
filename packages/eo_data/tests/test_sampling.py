"""Sampling: rare classes and full chips are drawn more often, by a formula, from the index alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord
from eo_data.errors import DataRefused, UsageError
from eo_data.sampling import draw, sampling_weights


def chip(*counts: int, valid: float = 1.0) -> ChipRecord:
    return ChipRecord(
        scene="s", shard="s.0", index=0, top=0, left=0, split="train", cell="c", valid_fraction=valid,
        class_counts=counts,
    )  # fmt: skip


def pixels(chips: list[ChipRecord], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of each class in the pixels of chips drawn."""
    counts = np.array([chips[k].class_counts for k in drawn]).sum(axis=0)
    return np.asarray(counts / counts.sum())


PURE = [chip(1000, 0)] * 950 + [chip(0, 1000)] * 50


@pytest.mark.parametrize(("balance", "wanted"), [(0.0, 0.05), (0.5, 0.05**0.5 / (0.05**0.5 + 0.95**0.5)), (1.0, 0.5)])
def test_where_chips_hold_one_class_each_a_rare_class_gets_its_share(balance: float, wanted: float) -> None:
    weights = sampling_weights(PURE, balance=balance)
    assert weights.sum() == pytest.approx(1)
    assert weights[950:].sum() == pytest.approx(wanted)
    n = 4000
    shares = [pixels(PURE, draw(weights, n, seed=1, epoch=epoch))[1] for epoch in range(20)]
    # Each of 50 alike chips comes floor or ceil of its expected number of times, so a sum is off by less than 50.
    assert max(abs(share - wanted) for share in shares) < 50 / n
    # The mean of 20 epochs: chips' roundings are Bernoulli, variance at most 1/4 each; five standard deviations.
    assert abs(np.mean(shares) - wanted) < 5 * np.sqrt(50 / 4 / 20) / n


def test_where_chips_mix_classes_the_rare_one_comes_nearer_to_its_share() -> None:
    rng = np.random.default_rng(0)
    water = np.minimum(rng.exponential(40, 500).astype(int), 1000)
    chips = [chip(1000 - int(k), int(k)) for k in water]
    natural, balanced = (
        pixels(chips, draw(sampling_weights(chips, balance=b), 5000, seed=0, epoch=0))[1] for b in (0.0, 1.0)
    )
    assert natural == pytest.approx(water.mean() / 1000, abs=500 / 5000 * 0.05)
    # By the formula: what a chip contributes, weighted by the importance of its mean pixel.
    f = water.mean() / 1000
    importance = water / 1000 * 0.5 / f + (1 - water / 1000) * 0.5 / (1 - f)
    expected = (importance * water).sum() / importance.sum() / 1000
    assert balanced == pytest.approx(expected, abs=500 / 5000 * 0.05)
    assert balanced > 1.4 * natural


def test_a_chip_with_little_data_is_drawn_in_proportion_to_it() -> None:
    chips = [chip(100, 100, valid=1.0), chip(10, 10, valid=0.1)]
    assert sampling_weights(chips) == pytest.approx([0.5, 0.5])
    assert sampling_weights(chips, valid=1.0) == pytest.approx([10 / 11, 1 / 11])
    assert sampling_weights(chips, valid=0.5) == pytest.approx(np.array([1, 0.1**0.5]) / (1 + 0.1**0.5))


def test_a_class_that_no_chip_holds_changes_nothing() -> None:
    without = sampling_weights([chip(90, 10), chip(10, 90)], balance=1.0)
    assert sampling_weights([chip(90, 10, 0), chip(10, 90, 0)], balance=1.0) == pytest.approx(without)
    assert sampling_weights([chip(0, 0, valid=0.0), chip(5, 5)], balance=1.0, valid=1.0).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 4099])
def test_equal_weights_and_as_many_draws_as_chips_are_a_shuffle(count: int) -> None:
    weights = np.full(count, 1 / count)
    orders = [draw(weights, count, seed=3, epoch=epoch) for epoch in range(5)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(count))
    if count > 2:
        assert len({tuple(order) for order in orders}) == 5


def test_every_chip_comes_as_often_as_its_weight_says_rounded_up_or_down() -> None:
    weights = np.random.default_rng(5).random(300) ** 3
    weights /= weights.sum()
    for n in (1, 100, 5000):
        counts = np.bincount(draw(weights, n, seed=0, epoch=n), minlength=300)
        assert counts.sum() == n
        assert (np.abs(counts - n * weights) < 1).all()


def test_equal_arguments_give_equal_draws_and_seed_and_epoch_matter() -> None:
    weights = np.full(50, 0.02)
    first = draw(weights, 50, seed=1, epoch=2).tolist()
    assert draw(weights, 50, seed=1, epoch=2).tolist() == first
    assert draw(weights, 50, seed=2, epoch=2).tolist() != first
    assert draw(weights, 50, seed=1, epoch=3).tolist() != first


def test_impossible_wishes_are_refused() -> None:
    for wrong in ({"balance": -0.1}, {"valid": 1.5}, {"balance": float("nan")}):
        with pytest.raises(UsageError, match="is not between 0 and 1"):
            sampling_weights(PURE, **wrong)
    for chips in ([], [chip(0, 0)]):
        with pytest.raises(DataRefused, match="no chip has a scored pixel"):
            sampling_weights(chips)
