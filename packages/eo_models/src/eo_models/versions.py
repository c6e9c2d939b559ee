"""What `train` registers: the spectral index of a dataset, and the trained network, each with its `model.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import Dataset, model_input
from eo_data.digests import sha256
from eo_data.model.description import ModelClass, ModelDescription, ModelInput, ModelOutput, Tiling
from eo_data.model.session import OnnxModel
from eo_data.provenance import git_commit
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import Split, UseCase
from eo_models.confusion import Counts, count, pool
from eo_models.golden import empty_golden_chip, with_golden_chip

Predict = Callable[[Pixels, Valid], NDArray[np.uint8]]
"""A chip's mask `[h, w]` of its pixels `[bands, h, w]` and of where they have data `[h, w]`."""

INDEX_TILING = Tiling(tile=256, halo=0, blend=0)
"""An index looks at one pixel: no halo, no seams."""


@dataclass(frozen=True)
class Artifact:
    """A version's two files, before they are registered.

    Attributes:
        graph: The bytes of `model.onnx`.
        description: `model.json`.
    """

    graph: bytes
    description: ModelDescription

    @property
    def digest(self) -> str:
        """The model digest."""
        return sha256(self.graph)

    def model(self) -> OnnxModel:
        """The version in memory."""
        return OnnxModel(self.graph, self.description)


def describe(
    graph: bytes,
    usecase: UseCase,
    dataset: Dataset,
    *,
    kind: Literal["network", "spectral-index"],
    architecture: str,
    tiling: Tiling,
    weights: int,
    metrics: dict[str, float | None],
    parameters: dict[str, Any],
) -> Artifact:
    """A graph with its description: nothing in it depends on time or place, so equal trainings give equal bytes.

    Args:
        graph: The bytes of `model.onnx`.
        usecase: Whose bands and classes.
        dataset: What it was made from.
        kind: Whether it was trained or tuned.
        architecture: Such as `U-Net`.
        tiling: How rasters are cut for it.
        weights: How many numbers were fitted.
        metrics: Training and validation figures.
        parameters: What else reproduces it.
    """
    data = usecase.data
    draft = ModelDescription(
        name=usecase.name,
        kind=kind,
        architecture=architecture,
        total_parameters=weights,
        input=ModelInput(bands=tuple(band.name for band in data.input_bands)),
        output=ModelOutput(
            classes=tuple(ModelClass(value=k, name=c.name, color=c.color) for k, c in enumerate(data.classes))
        ),
        tiling=tiling,
        usecase=usecase.name,
        usecase_data_digest=usecase.digest("data"),
        dataset_digest=dataset.digest,
        training_cells=tuple(sorted({chip.cell for chip in dataset.chips("train", "validation")})),
        metrics=rounded(metrics),
        git_commit=git_commit(),
        parameters=parameters,
        golden=empty_golden_chip(len(data.input_bands)),
    )
    return Artifact(graph, with_golden_chip(graph, draft, dataset))


def rounded(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Figures as `model.json` keeps them: to six places, undefined ones as None."""
    return {name: None if value is None else round(value, 6) for name, value in metrics.items()}


def score_split(predict: Predict, dataset: Dataset, split: Split) -> Counts:
    """Pooled counts of what predicts a chip's mask, on a split."""
    parts = []
    for chip in dataset.chips(split):
        image, label = dataset.read(chip)
        parts.append(count(predict(*model_input(image)), label))
    return pool(parts)
