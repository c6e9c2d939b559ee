"""The golden chip: a small real input whose mask a runtime reproduces before it serves (design 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import Dataset, model_input
from eo_data.digests import mask_digest
from eo_data.model.description import GOLDEN_SIZE, GoldenChip, ModelDescription
from eo_data.model.session import OnnxModel, classify
from eo_data.usecase import IGNORE

STRIDE: Final = 32
"""Distance of the crops that are considered, pixels."""

CANDIDATES: Final = 8
"""How many crops the model is asked about."""

MARGIN: Final = 1e-3
"""No pixel's two most probable classes shall be closer: another processor rounds otherwise, and may say the other."""


@dataclass(frozen=True)
class _Crop:
    pixels: NDArray[np.int16]
    rarest: int
    """Pixels of the class that the crop holds least of."""


def with_golden_chip(graph: bytes, description: ModelDescription, dataset: Dataset) -> ModelDescription:
    """The description with a golden chip: of the validation crops that hold most of both classes, a clear-cut one.

    Args:
        graph: The bytes of `model.onnx`.
        description: Its golden chip is replaced.
        dataset: Where the crop is taken from; the training split where validation has no data.
    """
    model = OnnxModel(graph, description)
    crops = sorted(_crops(dataset, len(description.output.classes)), key=lambda crop: -crop.rarest)[:CANDIDATES]
    best: tuple[float, GoldenChip] | None = None
    for crop in crops:
        pixels, valid = model_input(crop.pixels)
        probability = model.probability(pixels, valid)
        ranked = np.sort(probability[:, valid], axis=0)
        margin = float((ranked[-1] - ranked[-2]).min())
        if best is None or margin > best[0]:
            best = margin, GoldenChip.encode(crop.pixels, mask_digest(classify(probability, valid)))
        if margin >= MARGIN:
            break
    assert best is not None  # noqa: S101 - a dataset's training split has pixels with data
    return description.model_copy(update={"golden": best[1]})


def empty_golden_chip(bands: int) -> GoldenChip:
    """A stand-in for a description that has none yet."""
    return GoldenChip.encode(np.zeros((bands, 1, 1), dtype=np.int16), mask_digest(np.array([[IGNORE]], dtype=np.uint8)))


def _crops(dataset: Dataset, classes: int) -> Iterator[_Crop]:
    for split in ("validation", "train"):
        found = False
        for chip in dataset.chips(split):
            image, label = dataset.read(chip)
            size = min(GOLDEN_SIZE, label.shape[0])
            for top in range(0, label.shape[0] - size + 1, STRIDE):
                for left in range(0, label.shape[1] - size + 1, STRIDE):
                    part = np.s_[top : top + size, left : left + size]
                    pixels = np.array(image[:, part[0], part[1]])
                    if pixels.any():
                        found = True
                        yield _Crop(pixels, min(int((label[part] == k).sum()) for k in range(classes)))
        if found:
            return
