"""A model small enough to read: water where green is brighter than infrared."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from eo_data.digests import mask_digest
from eo_data.model.description import (
    GoldenChip,
    ModelClass,
    ModelDescription,
    ModelInput,
    ModelOutput,
    Tiling,
)

PIXELS = np.random.default_rng(0).integers(1, 3000, (2, 8, 8), dtype=np.int16)
"""Its golden chip: green and infrared, reflectance x 10000."""


def expected_mask(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The mask that it gives for pixels `[2, H, W]`; a tie is land, 0 in both is no data."""
    mask: NDArray[np.uint8] = (pixels[0] > pixels[1]).astype(np.uint8)
    mask[(pixels == 0).all(axis=0)] = 255
    return mask


def tiny_graph(
    *, weights: Any = ((0.0, 0.001), (0.001, 0.0)), names: tuple[str, str] = ("reflectance", "probability"),
    bands: int | str = 2, classes: int | str = 2,
) -> bytes:  # fmt: skip
    """An ONNX graph: a 1 x 1 convolution (land follows infrared, water green) and a softmax."""
    kernel = np.asarray(weights, np.float32)[:, :, None, None]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [names[0], "kernel"], ["score"]),
            helper.make_node("Softmax", ["score"], [names[1]], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["batch", bands, "height", "width"])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["batch", classes, "height", "width"])],
        [helper.make_tensor("kernel", TensorProto.FLOAT, kernel.shape, kernel.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def describe(**changes: Any) -> ModelDescription:
    """Its `model.json`."""
    return ModelDescription.model_validate(
        {
            "mlm:name": "water",
            "kind": "spectral-index",
            "mlm:architecture": "NDWI",
            "mlm:input": ModelInput(bands=("B03", "B08")),
            "mlm:output": ModelOutput(
                classes=(
                    ModelClass(value=0, name="land", color="#d9c9a3"),
                    ModelClass(value=1, name="water", color="#1f6fd1"),
                )
            ),
            "tiling": Tiling(tile=32, halo=4, blend=2),
            "usecase": "water",
            "usecase_data_digest": "u",
            "dataset_digest": "d",
            "golden": GoldenChip.encode(PIXELS, mask_digest(expected_mask(PIXELS))),
            **changes,
        }
    )
