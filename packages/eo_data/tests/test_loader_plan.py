"""The plan of an epoch: every chip once, mixed blocks, the same again for the same seed, weights, bounded blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eo_data.errors import UsageError
from eo_data.loader import Plan, RasterGrid, grid_chips, jittered_chips, plan_epoch


def blocks_of(counts: list[int]) -> NDArray[np.int64]:
    """The block of each chip, block k with counts[k] chips."""
    return np.repeat(np.arange(len(counts)), counts)


def plan(counts: list[int], **arguments: Any) -> Plan:
    return plan_epoch(blocks_of(counts), **{"seed": 1, "epoch": 0, "minibatch": 16, **arguments})


def distinct(made: Plan) -> list[int]:
    return [len(np.unique(made.blocks[made.part(number)])) for number in range(len(made))]


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), max_size=60),
    minibatch=st.integers(1, 20),
    seed=st.integers(0, 5),
)
def test_an_epoch_holds_every_chip_exactly_once(counts: list[int], minibatch: int, seed: int) -> None:
    made = plan(counts, minibatch=minibatch, seed=seed)
    assert sorted(made.chips.tolist()) == list(range(sum(counts)))
    np.testing.assert_array_equal(made.blocks, blocks_of(counts)[made.chips])
    assert len(made) == -(-sum(counts) // minibatch)


@pytest.mark.parametrize("chips_per_block", [1, 4, 8, 32])
@pytest.mark.parametrize("blocks", [16, 40, 121])
def test_every_full_minibatch_has_chips_of_eight_blocks_up_to_the_end(chips_per_block: int, blocks: int) -> None:
    for seed in range(3):
        made = plan([chips_per_block] * blocks, seed=seed)
        full = [count for number, count in enumerate(distinct(made)) if made.part(number).stop % 16 == 0]
        assert min(full) >= 8


def test_few_blocks_are_all_in_every_minibatch_for_as_long_as_they_last() -> None:
    assert distinct(plan([32, 32, 32]))[:-1] == [3] * 5


def test_the_same_seed_and_epoch_give_the_same_plan_and_others_another() -> None:
    def chips(seed: int, epoch: int) -> list[int]:
        order: list[int] = plan([4] * 50, seed=seed, epoch=epoch).chips.tolist()
        return order

    assert chips(1, 0) == chips(1, 0)
    assert len({tuple(chips(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6


def test_neighbours_of_a_block_are_spread_over_many_minibatches() -> None:
    made = plan([4] * 200)
    spread = [last - first for first, last in made.uses.values()]
    assert np.mean(spread) > 2


def test_blocks_are_read_once_and_few_are_needed_at_a_time() -> None:
    made = plan([4] * 500)
    assert len(made.uses) == 500
    assert 16 <= made.peak_blocks <= 90  # a buffer of 128 chips
    assert plan([32] * 100).peak_blocks <= 24


def test_weights_decide_how_often_a_chip_is_drawn() -> None:
    weights = np.where(np.arange(400) % 4 == 0, 3.0, 1.0)
    weights[7] = 0
    drawn = np.concatenate([plan([4] * 100, weights=weights, epoch=epoch).chips for epoch in range(30)])
    counts = np.bincount(drawn, minlength=400)
    assert counts.sum() == 30 * 400
    assert counts[7] == 0
    heavy, light = counts[weights == 3].mean(), counts[weights == 1].mean()
    assert heavy / light == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"minibatch": 0}, "minibatch"),
        ({"seed": -1}, "seed"),
        ({"epoch": -1}, "epoch"),
        ({"buffer": 15}, "buffer"),
        ({"distinct_blocks": 0}, "distinct_blocks"),
        ({"weights": [1.0]}, "weights"),
        ({"weights": [0.0] * 8}, "weights"),
        ({"weights": [-1.0] + [1.0] * 7}, "weights"),
        ({"weights": [float("nan")] + [1.0] * 7}, "weights"),
    ],
)
def test_an_impossible_argument_is_a_usage_error_that_names_it(arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError) as refusal:
        plan([4, 4], **arguments)
    assert refusal.value.where == where


# --- which chips there are


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    tile=st.sampled_from([(64, 64), (128, 32), (7, 300), (1, 300)]),
    size=st.sampled_from([16, 48, 64, 100]),
)
def test_grid_chips_cover_every_pixel_once_and_lie_in_their_blocks(
    shape: tuple[int, int], tile: tuple[int, int], size: int
) -> None:
    chips = grid_chips([RasterGrid(shape, (min(tile[0], shape[0]), min(tile[1], shape[1])))], size)
    seen = np.zeros(shape, dtype=int)
    for top, left, number in zip(chips.top, chips.left, chips.block, strict=True):
        seen[top : top + size, left : left + size] += 1
        block = chips.blocks[number]
        assert block.top <= top
        assert block.left <= left
        assert min(top + size, shape[0]) <= block.top + block.height
        assert min(left + size, shape[1]) <= block.left + block.width
    assert (seen == 1).all()


def test_a_grid_that_divides_the_tile_decodes_no_tile_twice() -> None:
    chips = grid_chips([RasterGrid((200, 330), (64, 64))], 32)
    assert all(block.top % 64 == 0 and block.left % 64 == 0 and block.height <= 64 for block in chips.blocks)
    assert sum(block.height * block.width for block in chips.blocks) == 200 * 330


def test_chips_that_reach_beyond_the_raster_can_be_left_out() -> None:
    assert len(grid_chips([RasterGrid((200, 330), (64, 64))], 64, edges=False)) == 3 * 5


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    size=st.sampled_from([16, 48, 64, 100]),
    epoch=st.integers(0, 3),
)
def test_jittered_windows_lie_inside_their_block_on_tile_borders(shape: tuple[int, int], size: int, epoch: int) -> None:
    tile = (min(64, shape[0]), min(64, shape[1]))
    chips = jittered_chips([RasterGrid(shape, tile)], size)
    tops, lefts = chips.windows(np.arange(len(chips)), seed=1, epoch=epoch)
    seen = np.zeros(shape, dtype=bool)
    for top, left, number in zip(tops, lefts, chips.block, strict=True):
        block = chips.blocks[number]
        assert block.top % tile[0] == 0
        assert block.left % tile[1] == 0
        assert block.top <= top <= max(block.top, block.top + block.height - size)
        assert block.left <= left <= max(block.left, block.left + block.width - size)
        seen[block.top : block.top + block.height, block.left : block.left + block.width] = True
    assert seen.all()


def test_windows_are_drawn_anew_each_epoch_and_are_the_same_for_the_same() -> None:
    chips = jittered_chips([RasterGrid((256, 256), (64, 64))], 32)
    every = np.arange(len(chips))
    first = chips.windows(every, seed=1, epoch=0)
    np.testing.assert_array_equal(first, chips.windows(every, seed=1, epoch=0))
    assert (np.array(first) != chips.windows(every, seed=1, epoch=1)).any()
