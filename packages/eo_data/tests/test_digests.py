"""Digests: of values and pixels, never of how they were written down."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eo_data.digests import RasterDigest, canonical_json, json_digest, mask_digest, pixel_digest, sha256

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(), max_size=6))
@quick
def test_the_order_of_keys_does_not_enter(value: dict[str, int]) -> None:
    assert json_digest(dict(reversed(value.items()))) == json_digest(value)
    assert json.loads(canonical_json(value)) == value


def test_canonical_json_is_fixed() -> None:
    assert canonical_json({"b": [1, 2.5, None, True], "a": "ü"}) == '{"a":"ü","b":[1,2.5,null,true]}'.encode()
    assert json_digest({}) == hashlib.sha256(b"{}").hexdigest() == sha256(b"{}")
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON compliant"):
            canonical_json({"a": number})


def raster_digest(pixels: NDArray[Any], heights: list[int]) -> str:
    bands, height, width = pixels.shape
    digest = RasterDigest(pixels.dtype.name, bands, height, width)
    top = 0
    for rows in heights:
        digest.update(pixels[:, top : top + rows])
        top += rows
    assert top == height
    return digest.hexdigest()


@given(data=st.data(), dtype=st.sampled_from(["uint8", "int16", "uint16", "float32", "complex64"]))
@quick
def test_the_height_of_strips_does_not_enter(data: st.DataObject, dtype: str) -> None:
    height = data.draw(st.integers(1, 12))
    pixels = np.random.default_rng(0).integers(0, 100, (3, height, 5)).astype(dtype)
    cuts = sorted(data.draw(st.sets(st.integers(1, height - 1), max_size=4))) if height > 1 else []
    heights = np.diff([0, *cuts, height]).tolist()
    assert raster_digest(pixels, heights) == raster_digest(pixels, [height])


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "complex64"])
def test_the_byte_order_and_the_memory_order_do_not_enter(dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 1000, (3, 4, 5)).astype(dtype)
    swapped = pixels.astype(pixels.dtype.newbyteorder(">"))
    assert pixel_digest(swapped) == pixel_digest(pixels) == pixel_digest(np.asfortranarray(pixels))
    assert raster_digest(swapped, [2, 2]) == raster_digest(np.asfortranarray(pixels), [4]) == raster_digest(pixels, [4])


def test_a_pixel_a_type_and_a_shape_enter() -> None:
    pixels = np.zeros((2, 3, 4), np.uint16)
    other = pixels.copy()
    other[1, 2, 3] = 1
    variants = [pixels, other, pixels.astype(np.int16), pixels.reshape(3, 2, 4), pixels.reshape(2, 4, 3), pixels[:1]]
    assert len({raster_digest(v, [v.shape[1]]) for v in variants}) == len(variants)
    assert len({pixel_digest(v) for v in variants}) == len(variants)
    swapped_bands = other[::-1]
    assert raster_digest(swapped_bands, [3]) != raster_digest(other, [3])


def test_a_masks_digest_is_that_of_its_pixels_alone() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert mask_digest(mask) == hashlib.sha256(bytes(range(12))).hexdigest()
    assert mask_digest(mask[:, ::-1][:, ::-1]) == mask_digest(np.asfortranarray(mask)) == mask_digest(mask)


@given(value=values)
@quick
def test_canonical_json_reads_back(value: object) -> None:
    try:
        data = canonical_json(value)
    except UnicodeEncodeError:  # a lone surrogate is no text that could be stored
        return
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data
