"""`model.json`: canonical bytes, and a golden chip that unfolds to what it says."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from eo_data.errors import DataRefused
from eo_data.model.description import GOLDEN_SIZE, GoldenChip, ModelDescription
from eo_data.model.files import ModelFiles
from eo_data.tiling import TilePlan

from .tiny_model import describe

quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def test_a_description_reads_back_and_has_one_form() -> None:
    description = describe(metrics={"validation.iou": 0.5, "train.iou": None}, training_cells=("c/1", "c/2"))
    data = description.to_bytes()
    assert ModelDescription.from_bytes(data) == description
    assert ModelDescription.from_bytes(data).to_bytes() == data
    shuffled = dict(reversed(json.loads(data).items()))
    assert ModelDescription.from_bytes(json.dumps(shuffled, indent=2).encode()).to_bytes() == data
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_it_speaks_stac_mlm() -> None:
    content = json.loads(describe().to_bytes())
    assert content["mlm:name"] == "water"
    assert content["mlm:tasks"] == ["semantic-segmentation"]
    assert content["mlm:framework"] == "ONNX"
    assert content["mlm:input"]["bands"] == ["B03", "B08"]
    assert content["mlm:input"]["dim_order"] == ["batch", "bands", "height", "width"]
    assert [entry["name"] for entry in content["mlm:output"]["classes"]] == ["land", "water"]
    assert describe().tiling.plan() == TilePlan(32, 4, 2)


def golden(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["golden"].update(changes)


def packed(size: int) -> str:
    return base64.b64encode(zlib.compress(bytes(size))).decode()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda content: content.update(extra=1), "extra"),
        (lambda content: content.pop("mlm:name"), "mlm:name"),
        (lambda content: content.update(schema_version=2), "schema_version"),
        (lambda content: content.update(kind="tree"), "kind"),
        (lambda content: content["mlm:input"].update(data_type="uint8"), "mlm:input.data_type"),
        (lambda content: content["mlm:input"].update(bands=["B03"]), "golden chip has 2 bands"),
        (golden(shape=[2, 65, 8]), "at most 64 x 64"),
        (golden(shape=[2, 8, 0]), "golden"),
        (golden(shape=[2, 8, 9]), "cannot be decoded"),
        (golden(shape=[2, 8, 7]), "cannot be decoded"),
        (golden(pixels="%%%"), "cannot be decoded"),
        (golden(pixels="QUJD"), "cannot be decoded"),
        (golden(pixels=packed(2_000_000_000 // 100)), "cannot be decoded"),
    ],
)
def test_what_is_no_description_is_refused_by_its_path(spoil: Callable[[dict[str, Any]], None], named: str) -> None:
    content = json.loads(describe().to_bytes())
    spoil(content)
    with pytest.raises(DataRefused, match=r"^models:/water/3: model\.json cannot be understood") as refusal:
        ModelFiles.of("water", 3, "run", b"graph", json.dumps(content).encode())
    assert named in str(refusal.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(DataRefused, match=r"model\.json cannot be understood"):
        ModelFiles.of("water", 3, "run", b"graph", text)


@given(shape=st.tuples(st.integers(1, 7), st.integers(1, 64), st.integers(1, 64)), seed=st.integers(0, 9))
@quick
def test_a_golden_chip_keeps_every_pixel(shape: tuple[int, int, int], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(-32768, 32767, shape, dtype=np.int16, endpoint=True)
    chip = GoldenChip.encode(pixels, "digest")
    assert chip.shape == shape
    assert chip.decode().dtype == np.float32
    assert np.array_equal(chip.decode(), pixels.astype(np.float32))
    swapped = pixels.astype(">i2")
    assert GoldenChip.encode(swapped, "digest") == chip


@pytest.mark.parametrize("shape", [(2, GOLDEN_SIZE + 1, 4), (2, 4, GOLDEN_SIZE + 1)])
def test_a_golden_chip_is_small(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at most 64 x 64"):
        GoldenChip.encode(np.zeros(shape, np.int16), "digest")


def test_a_bomb_in_a_golden_chip_does_not_unfold() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()
    tracemalloc.start()
    with pytest.raises(ValidationError, match="cannot be decoded"):
        GoldenChip(shape=(2, 8, 8), pixels=bomb, mask_digest="d")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000
