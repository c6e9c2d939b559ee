"""The tile plan: any raster, any plan, and the model sees the same as if the raster were one tile."""

from __future__ import annotations

import threading
import tracemalloc
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_data.read_gate import ReadGate
from eo_data.tiling import (
    Pixels,
    Predict,
    TilePlan,
    Valid,
    array_reader,
    one_ahead,
    predict_array,
    predict_rows,
)

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)

sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))
halos = st.integers(0, 6)
blends = st.integers(0, 5)


@st.composite
def plans(draw: st.DrawFn, least_halo: int = 0) -> TilePlan:
    halo, blend = draw(st.integers(least_halo, 6)), draw(blends)
    return TilePlan(draw(st.integers(2 * halo + blend + 1, 2 * halo + blend + 30)), halo, blend)


def scene(shape: tuple[int, int], seed: int = 0, bands: int = 2) -> Pixels:
    return np.random.default_rng(seed).normal(1000, 300, (bands, *shape)).astype(np.float32)


def identity(tiles: Pixels) -> Pixels:
    return tiles.copy()


def convolution(radius: int) -> Predict:
    """A model of this receptive radius; what it gives closer to a tile's edge is wrong on purpose."""

    def predict(tiles: Pixels) -> Pixels:
        total = np.zeros(tiles[:, :1].shape, np.float64)
        for down in range(-radius, radius + 1):
            for right in range(-radius, radius + 1):
                weight = 1 + 0.3 * down - 0.2 * right  # not symmetric: a mirrored or shifted tile shows
                total += weight * np.roll(tiles, (down, right), axis=(2, 3)).sum(axis=1, keepdims=True)
        return np.tanh(total / 5000).astype(np.float32)

    return predict


@given(shape=sizes, plan=plans())
@quick
def test_the_identity_gives_the_raster_back(shape: tuple[int, int], plan: TilePlan) -> None:
    pixels = scene(shape)
    result = predict_array(pixels, np.ones(shape, bool), identity, plan)
    assert result.shape == pixels.shape
    assert result.dtype == np.float32
    assert np.allclose(result, pixels, rtol=1e-6)
    if plan.blend == 0:
        assert np.array_equal(result, pixels)


@given(shape=sizes, plan=plans(least_halo=2), radius=st.integers(0, 2))
@quick
def test_tiles_do_not_show(shape: tuple[int, int], plan: TilePlan, radius: int) -> None:
    pixels, model = scene(shape), convolution(radius)
    whole = np.pad(pixels, ((0, 0), (radius, radius), (radius, radius)), mode="symmetric")
    expected = model(whole[None])[0][:, radius : radius + shape[0], radius : radius + shape[1]]
    result = predict_array(pixels, np.ones(shape, bool), model, plan)
    assert np.allclose(result, expected, atol=1e-5)


@given(plan=plans(least_halo=2).filter(lambda plan: plan.step > 5), top=st.integers(0, 20), left=st.integers(0, 20))
@settings(quick, max_examples=15)
def test_a_pixels_answer_does_not_depend_on_where_the_raster_begins(plan: TilePlan, top: int, left: int) -> None:
    pixels, model = scene((64, 60)), convolution(2)
    whole = predict_array(pixels, np.ones((64, 60), bool), model, plan)
    part = pixels[:, top : top + 40, left : left + 36]
    result = predict_array(part, np.ones((40, 36), bool), model, plan)
    inside = np.s_[:, 2:-2, 2:-2]  # closer to the edge the mirror stands in for the neighbours
    assert np.allclose(result[inside], whole[:, top : top + 40, left : left + 36][inside], atol=1e-5)


@given(shape=sizes, plan=plans(), minibatch=st.integers(1, 9))
@quick
def test_rows_come_once_each_in_order_and_equal_the_whole(
    shape: tuple[int, int], plan: TilePlan, minibatch: int
) -> None:
    pixels = scene(shape)
    valid = np.random.default_rng(1).random(shape) > 0.3
    model = convolution(1)
    bands = list(predict_rows(array_reader(pixels, valid), shape, model, plan, minibatch=minibatch))
    assert [band.top for band in bands] == np.cumsum([0] + [band.valid.shape[0] for band in bands])[:-1].tolist()
    assert np.array_equal(np.concatenate([band.valid for band in bands]), valid)
    streamed = np.concatenate([band.probability for band in bands], axis=1)
    assert np.array_equal(streamed, predict_array(pixels, valid, model, plan))


@given(shape=sizes, plan=plans(), share=st.sampled_from([0.0, 0.02, 0.5]))
@quick
def test_pixels_without_data_get_0_and_do_not_change_the_others(
    shape: tuple[int, int], plan: TilePlan, share: float
) -> None:
    pixels = scene(shape)
    valid = np.random.default_rng(2).random(shape) < share
    result = predict_array(pixels, valid, identity, plan)
    assert (result[:, ~valid] == 0).all()
    assert np.allclose(result[:, valid], pixels[:, valid], rtol=1e-6)


def test_tiles_without_data_do_not_go_to_the_model() -> None:
    sent: list[Pixels] = []

    def count(tiles: Pixels) -> Pixels:
        sent.extend(tiles)
        return tiles

    valid = np.zeros((32, 320), bool)
    valid[5, 200] = True
    predict_array(scene(valid.shape), valid, count, TilePlan(32, 0, 0))
    assert len(sent) == 1


def test_a_model_that_gives_no_number_spoils_its_own_pixels_alone() -> None:
    pixels = scene((40, 40))
    pixels[:, 3, 4] = np.nan

    with np.errstate(invalid="ignore"):
        result = predict_array(pixels, np.ones((40, 40), bool), identity, TilePlan(24, 4, 4))
    assert np.argwhere(~np.isfinite(result[0])).tolist() == [[3, 4]]


@given(shape=sizes, plan=plans())
@quick
def test_rows_are_read_once_but_for_those_mirrored_at_the_end_and_within_the_raster(
    shape: tuple[int, int], plan: TilePlan
) -> None:
    pixels, reads, asked = scene(shape), Counter[int](), []
    inner = array_reader(pixels, np.ones(shape, bool))

    def read(top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
        assert top >= 0
        assert top + height <= shape[0]
        assert (left, width) == (0, shape[1])
        reads.update(range(top, top + height))
        asked.append(height)
        return inner(top, left, height, width)

    bands = list(predict_rows(read, shape, identity, plan))
    assert set(reads) == set(range(shape[0]))
    again = [row for row, times in reads.items() if times > 1]
    assert min(again, default=shape[0]) >= shape[0] - 2 * plan.tile
    assert max(reads.values()) <= -(-plan.tile // plan.step) + 1
    assert max(asked) <= plan.tile
    assert max(band.valid.shape[0] for band in bands) <= plan.core


@pytest.mark.parametrize("height", [1, 40, 300])
def test_reading_ahead_changes_nothing(height: int) -> None:
    """One reader at a time, from top to bottom, while the model works on the band before."""
    plan, shape = TilePlan(64, 8, 4), (height, 150)
    pixels = scene(shape)
    inner, inside, asked = array_reader(pixels, np.ones(shape, bool)), threading.Lock(), []

    def read(top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
        assert inside.acquire(blocking=False)
        asked.append((top, threading.current_thread().name))
        found = inner(top, left, height, width)
        inside.release()
        return found

    wanted = list(predict_rows(inner, shape, identity, plan))
    found = list(predict_rows(read, shape, identity, plan, fetch=one_ahead))
    for one, other in zip(found, wanted, strict=True):
        assert one.top == other.top
        np.testing.assert_array_equal(one.probability, other.probability)
    assert {name.split("_")[0] for _, name in asked} == {"one-ahead"}


def test_a_reader_that_fails_ahead_fails_in_its_turn() -> None:
    def read(top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
        if top > 100:
            raise OSError("gone")
        return np.ones((2, height, width), np.float32), np.ones((height, width), bool)

    bands = predict_rows(read, (600, 80), identity, TilePlan(64, 8, 4), fetch=one_ahead)
    first = next(bands)
    assert first.top == 0
    with pytest.raises(OSError, match="gone"):
        list(bands)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("one-ahead")]


def test_who_stops_early_leaves_no_thread() -> None:
    pixels = scene((600, 80))
    bands = predict_rows(
        array_reader(pixels, np.ones((600, 80), bool)), (600, 80), identity, TilePlan(64, 8, 4), fetch=one_ahead
    )
    next(bands)
    bands.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("one-ahead")]


def test_a_raster_is_closed_after_the_read_that_is_under_way() -> None:
    gate, reading, go, order = ReadGate(), threading.Event(), threading.Event(), []

    def read() -> None:
        with gate.reading():
            reading.set()
            go.wait(30)
            order.append("read")

    with gate:
        thread = threading.Thread(target=read)
        thread.start()
        assert reading.wait(30)
        threading.Timer(0.1, go.set).start()
    order.append("closed")
    thread.join()
    assert order == ["read", "closed"]
    with pytest.raises(RuntimeError, match="closed"), gate.reading():
        pass


def test_memory_depends_on_the_width_never_on_the_height() -> None:
    plan = TilePlan(64, 8, 4)

    def read(top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
        return np.full((2, height, width), 1000, np.float32), np.ones((height, width), bool)

    def peak(height: int) -> int:
        tracemalloc.start()
        rows = sum(band.valid.shape[0] for band in predict_rows(read, (height, 200), identity, plan))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert rows == height
        return most

    peak(64)  # what is made once and kept
    assert peak(6000) < 1.2 * peak(300)


@pytest.mark.parametrize(("tile", "halo", "blend"), [(0, 0, 0), (16, 8, 0), (16, 4, 8), (16, -1, 0), (16, 0, -1)])
def test_a_plan_that_does_not_advance_is_refused(tile: int, halo: int, blend: int) -> None:
    with pytest.raises(ValueError, match="too small"):
        TilePlan(tile, halo, blend)


@given(length=st.integers(1, 5000), plan=plans())
@quick
def test_cores_cover_an_axis_without_a_needless_one(length: int, plan: TilePlan) -> None:
    starts = plan.starts(length)
    assert starts[0] == 0
    assert starts[-1] + plan.core >= length
    assert {second - first for first, second in pairwise(starts)} <= {plan.step}
    assert len(starts) == 1 or starts[-2] + plan.core < length


def test_neighbouring_cores_are_blended_linearly() -> None:
    plan = TilePlan(16, 2, 3)
    calls = iter(range(10))

    def numbered(tiles: Pixels) -> Pixels:
        return np.stack([np.full(tile.shape, float(next(calls)), np.float32) for tile in tiles])

    result = predict_array(scene((5, 21), bands=1), np.ones((5, 21), bool), numbered, plan)
    assert np.allclose(result[0, 0], [0] * 9 + [0.25, 0.5, 0.75] + [1] * 9)
