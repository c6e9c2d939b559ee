"""Quicklooks: what the decoded PNG shows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eo_data.quicklook import MAX_SIDE, overlay, quicklook_png, true_colour

COLORS = ("#d9c9a3", "#1f6fd1", "#ff0000")


def decode(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def gradient(height: int = 20, width: int = 30) -> NDArray[np.float32]:
    """Red grows to the right, green downwards, blue is constant."""
    rgb = np.empty((3, height, width), np.float32)
    rgb[0] = np.linspace(500, 3000, width)[None]
    rgb[1] = np.linspace(500, 3000, height)[:, None]
    rgb[2] = 1000
    return rgb


def test_a_scene_alone_is_itself() -> None:
    picture = decode(quicklook_png(gradient(), None, COLORS))
    assert picture.shape == (20, 30, 3)
    assert (np.diff(picture[5, :, 0].astype(int)) >= 0).all()
    assert picture[5, 0, 0] < 30
    assert picture[5, -1, 0] > 230
    assert (np.diff(picture[:, 5, 1].astype(int)) >= 0).all()
    assert (picture[:, :, 2] == picture[0, 0, 2]).all()


def test_the_mask_lies_beside_it_with_its_colours() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[:10], mask[10:, :15], mask[15:, 25:] = 1, 2, 255
    picture = decode(quicklook_png(gradient(), mask, COLORS))
    assert picture.shape == (20, 30 + 4 + 30, 3)
    scene, gap, laid_over = picture[:, :30], picture[:, 30:34], picture[:, 34:]
    assert (gap == 255).all()
    for region, colour in ((mask == 1, (0x1F, 0x6F, 0xD1)), (mask == 2, (0xFF, 0, 0))):
        expected = 0.4 * scene[region] + 0.6 * np.array(colour)
        assert np.abs(laid_over[region].astype(float) - expected).max() <= 1
    assert np.array_equal(laid_over[mask == 0], scene[mask == 0])  # the first class stays bare
    assert (scene[mask == 255] == 255).all()
    assert (laid_over[mask == 255] == 255).all()


def test_pixels_without_data_are_white() -> None:
    rgb = gradient()
    rgb[:, 3:6, 4:9] = 0
    picture = decode(quicklook_png(rgb, None, COLORS))
    assert (picture[3:6, 4:9] == 255).all()
    assert not (picture[8:, 10:] == 255).all()
    assert (decode(quicklook_png(np.zeros((3, 5, 5), np.float32), None, COLORS)) == 255).all()


@pytest.mark.parametrize("value", [1.0, 1500.0, -300.0, 1e6])
def test_a_flat_scene_is_a_picture_too(value: float) -> None:
    picture = decode(quicklook_png(np.full((3, 4, 4), value, np.float32), None, COLORS))
    assert picture.shape == (4, 4, 3)
    assert (picture == picture[0, 0]).all()


def test_the_stretch_leaves_out_what_has_no_data() -> None:
    rgb = gradient()
    valid = np.ones((20, 30), bool)
    valid[0] = False
    rgb[:, 0] = 1e9
    reference = true_colour(np.where(valid, rgb, np.float32(0)), valid)
    assert np.array_equal(true_colour(rgb, valid), reference)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3000), (MAX_SIDE, 2), (MAX_SIDE + 1, 10), (2500, 1500)])
def test_a_large_scene_is_thinned_by_whole_steps(height: int, width: int) -> None:
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 1
    picture = decode(quicklook_png(gradient(height, width), mask, COLORS))
    step = -(-max(height, width) // MAX_SIDE)
    assert picture.shape == (-(-height // step), 2 * -(-width // step) + 4, 3)
    assert max(picture.shape[0], (picture.shape[1] - 4) // 2) <= MAX_SIDE


def test_laying_over_leaves_the_picture_as_it_was() -> None:
    picture = np.full((2, 2, 3), 100, np.uint8)
    result = overlay(picture, np.array([[1, 0], [255, 2]], np.uint8), COLORS)
    assert (picture == 100).all()
    assert result[0, 1].tolist() == result[1, 0].tolist() == [100, 100, 100]
    assert result[1, 1].tolist() == [int(0.4 * 100 + 0.6 * 255), 40, 40]


def test_equal_scenes_give_equal_bytes() -> None:
    assert quicklook_png(gradient(), None, COLORS) == quicklook_png(gradient(), None, COLORS)
