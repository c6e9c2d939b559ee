"""A model version in memory: a real graph in ONNX Runtime, its masks, and its self-test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_data.digests import sha256
from eo_data.errors import DataRefused
from eo_data.model.description import GoldenChip
from eo_data.model.session import OnnxModel, classify

from .tiny_model import PIXELS, describe, expected_mask, tiny_graph

quick = settings(max_examples=20, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return OnnxModel(tiny_graph(), describe())


@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 99))
@quick
def test_a_mask_of_any_size_is_right(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 4000, (2, height, width)).astype(np.float32)
    valid = rng.random((height, width)) > 0.2
    mask = OnnxModel(tiny_graph(), describe()).mask(np.where(valid, pixels, np.float32(0)), valid)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, np.where(valid, expected_mask(pixels), 255))


def test_probabilities_add_up_to_1_where_there_is_data(model: OnnxModel) -> None:
    pixels = np.random.default_rng(0).integers(1, 4000, (2, 50, 41)).astype(np.float32)
    valid = np.ones((50, 41), bool)
    valid[:, :7] = False
    probability = model.probability(pixels, valid)
    assert probability.shape == (2, 50, 41)
    assert np.allclose(probability.sum(axis=0)[valid], 1, atol=1e-6)
    assert (probability[:, ~valid] == 0).all()


def test_threads_and_minibatches_do_not_change_a_bit() -> None:
    tiles = np.random.default_rng(0).normal(1000, 500, (3, 2, 32, 32)).astype(np.float32)
    one, two = OnnxModel(tiny_graph(), describe(), threads=1), OnnxModel(tiny_graph(), describe(), threads=2)
    assert np.array_equal(one(tiles), two(tiles))
    assert np.array_equal(one(tiles)[1:2], two(tiles[1:2]))


def test_the_digest_is_that_of_the_graphs_bytes(model: OnnxModel) -> None:
    assert model.digest == sha256(tiny_graph())


def test_the_self_test_holds_for_the_graph_that_was_recorded(model: OnnxModel) -> None:
    model.self_test()


def test_the_self_test_fails_for_another_graph() -> None:
    swapped = OnnxModel(tiny_graph(weights=((0.001, 0.0), (0.0, 0.001))), describe())
    with pytest.raises(DataRefused, match=r"the golden chip's mask has digest .* Do not serve this version"):
        swapped.self_test()
    other = describe(golden=GoldenChip.encode(PIXELS, "0" * 64))
    with pytest.raises(DataRefused, match="recorded is 000000000000"):
        OnnxModel(tiny_graph(), other).self_test()


def test_a_golden_chip_may_have_pixels_without_data() -> None:
    from eo_data.digests import mask_digest

    pixels = PIXELS.copy()
    pixels[:, 2:4, 3] = 0
    golden = GoldenChip.encode(pixels, mask_digest(expected_mask(pixels)))
    OnnxModel(tiny_graph(), describe(golden=golden)).self_test()


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (b"", "cannot be loaded"),
        (b"no graph at all", "cannot be loaded"),
        (tiny_graph()[:-40], "cannot be loaded"),
        (tiny_graph(names=("input", "output")), r"\[\['input'\], \['output'\]\]"),
        (tiny_graph(weights=np.full((2, 3), 0.1), bands=3), "describes 2 channels"),
        (tiny_graph(weights=np.full((3, 2), 0.1), classes=3), "describes 2 channels"),
    ],
)
def test_a_graph_that_is_not_the_one_described_is_refused(graph: bytes, said: str) -> None:
    with pytest.raises(DataRefused, match=said) as refusal:
        OnnxModel(graph, describe())
    assert refusal.value.where == "model.onnx"


def test_named_channels_may_be_any_number() -> None:
    OnnxModel(tiny_graph(bands="bands", classes="classes"), describe()).self_test()


def test_a_tie_is_the_lower_class_and_no_number_is_no_data() -> None:
    probability = np.array([[[0.5, 0.2, np.nan, 0.9]], [[0.5, 0.8, 0.8, np.inf]]], np.float32)
    assert classify(probability, np.array([[True] * 4])).tolist() == [[0, 1, 255, 255]]
    assert classify(probability, np.array([[False] * 4])).tolist() == [[255] * 4]


def test_absurd_values_become_no_data_not_an_error(model: OnnxModel) -> None:
    pixels = np.full((2, 4, 4), 1000, np.float32)
    pixels[0, 1, 1] = np.inf
    mask = model.mask(pixels, np.ones((4, 4), bool))
    assert mask[1, 1] == 255
    assert (np.delete(mask.ravel(), 5) == 0).all()
