"""A scene is judged by all its pixels where it is small, else by a few whole blocks of its file, spread evenly."""

from __future__ import annotations

import numpy as np
import pytest

from eo_data.pixel_sample import DECODED, KEPT, WHOLE, plan_sample


@pytest.mark.parametrize("shape", [(1, 1), (224, 224), (1024, 1024), (1, WHOLE)])
@pytest.mark.parametrize("block", [(1, 224), (512, 512)])
def test_a_small_raster_is_read_whole(shape: tuple[int, int], block: tuple[int, int]) -> None:
    plan = plan_sample(shape, block)
    assert (plan.windows, plan.step) == (((0, 0, *shape),), 1)


@pytest.mark.parametrize("block", [(256, 256), (512, 512), (1024, 1024), (1, 10980), (3, 10980), (32, 10980), (16, 16)])
def test_of_a_sentinel_tile_few_whole_blocks_are_decoded(block: tuple[int, int]) -> None:
    plan = plan_sample((10980, 10980), block)
    decoded = sum(height * width for _, _, height, width in plan.windows)
    assert decoded <= DECODED + block[0] * block[1]
    assert decoded <= 0.04 * 10980 * 10980
    kept = sum(-(-height // plan.step) * -(-width // plan.step) for _, _, height, width in plan.windows)
    assert KEPT / 4 < kept <= KEPT
    assert len(set(plan.windows)) == len(plan.windows)
    for top, left, height, width in plan.windows:
        assert top % block[0] == left % block[1] == 0
        assert 0 < height <= 10980 - top
        assert 0 < width <= 10980 - left
    middle = sum(top + height / 2 for top, _, height, _ in plan.windows) / len(plan.windows)
    assert middle == pytest.approx(5490, abs=600)
    assert plan == plan_sample((10980, 10980), block)


@pytest.mark.parametrize(
    ("shape", "block"),
    [((1100, 1100), (1100, 1100)), ((3, 10**6), (3, 10**6)), ((10**6, 3), (1, 3)), ((2000, 2000), (512, 512))],
)
def test_odd_shapes_have_a_sample_inside_them(shape: tuple[int, int], block: tuple[int, int]) -> None:
    plan = plan_sample(shape, block)
    assert plan.windows
    for top, left, height, width in plan.windows:
        assert 0 <= top < top + height <= shape[0]
        assert 0 <= left < left + width <= shape[1]


@pytest.mark.parametrize("block", [(256, 256), (512, 512), (16, 3072)])
def test_quantiles_of_the_sample_are_close_to_those_of_all_pixels(block: tuple[int, int]) -> None:
    """On land as it is: alike over hundreds of pixels, with noise and a few dark and bright ones in between."""
    rng = np.random.default_rng(4)
    image = rng.normal(2000, 15, (3072, 3072))
    for side, weight in ((192, 150), (48, 120), (8, 80)):
        image += np.kron(rng.normal(0, weight, (3072 // side, 3072 // side)), np.ones((side, side)))
    image[rng.random(image.shape) < 0.005] = 100
    plan = plan_sample(image.shape, block)
    assert len(plan.windows) > 1
    kept = np.concatenate([image[y : y + h : plan.step, x : x + w : plan.step].ravel() for y, x, h, w in plan.windows])
    levels = (0.001, 0.02, 0.5, 0.98)
    difference = np.quantile(kept, levels) - np.quantile(image, levels)
    assert np.abs(difference).max() < 0.2 * image.std()
    assert abs(float((kept == 100).mean()) - 0.005) < 0.001
