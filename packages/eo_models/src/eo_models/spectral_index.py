"""The spectral index as a model: NDWI or MNDWI with a tuned threshold, and the ONNX graph that computes it.

NDWI = (green - nir) / (green + nir), MNDWI = (green - swir16) / (green + swir16): plain divisions, as their
authors wrote them. 0/0 is not water.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import Dataset, model_input
from eo_data.errors import UsageError
from eo_data.tiling import Pixels
from eo_data.usecase import IGNORE, DataSection, Split
from eo_models.confusion import TARGET, Counts
from eo_models.inputs import find_band

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

GRID: Final = np.round(np.arange(-50, 51) / 100, 2).astype(np.float32)
"""The thresholds that are tried."""

STEEPNESS: Final = 20.0
"""Slope of the probability at the threshold: a tenth above it is 0.88."""

_MARGIN: Final = 1e-6
"""How far above one half the probability of a pixel above the threshold is at least (float32 rounds)."""

_SHORT_WAVE = {"NDWI": ("nir", "nir08"), "MNDWI": ("swir16", "swir1")}


@dataclass(frozen=True)
class SpectralIndex:
    """An index and its threshold.

    Attributes:
        name: `NDWI` or `MNDWI`.
        green: Index of the green band among the inputs.
        other: Index of the band that it is held against.
        threshold: Water is what lies above.
    """

    name: str
    green: int
    other: int
    threshold: float = 0.0

    def values(self, pixels: Pixels) -> Pixels:
        """The index of pixels `[bands, ...]`, float32; NaN for 0/0."""
        green, other = pixels[self.green], pixels[self.other]
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Pixels = (green - other) / (green + other)
        return result

    def mask(self, pixels: Pixels) -> NDArray[np.uint8]:
        """1 where the index lies above the threshold, else 0."""
        return (self.values(pixels) > np.float32(self.threshold)).astype(np.uint8)


def indices(data: DataSection) -> list[SpectralIndex]:
    """The indices that a use case's bands allow, untuned (threshold 0), NDWI first.

    Raises:
        UsageError: If the use case does not tell water from the rest, or its bands allow no index.
    """
    if len(data.classes) != 2:
        raise UsageError(
            f"a spectral index tells two classes apart, the use case has {len(data.classes)}",
            where="data.classes",
            fix="Give two classes, the second of them water",
        )
    green = find_band(data, "green")
    found = []
    for name, others in _SHORT_WAVE.items():
        other = find_band(data, *others)
        if green is not None and other is not None:
            found.append(SpectralIndex(name, green, other))
    if not found:
        raise UsageError(
            f"no water index can be made of {', '.join(data.inputs)}",
            where="data.inputs",
            fix="It takes green, and nir or swir16; give the bands their common_name",
        )
    return found


class ThresholdCounts:
    """Counts of an index at every threshold of the grid, gathered chip by chip.

    Args:
        index: Its threshold is of no account.
    """

    def __init__(self, index: SpectralIndex) -> None:
        self._index = index
        # How many scored pixels lie above exactly the first n thresholds, by [not water, water].
        self._histogram = np.zeros((2, len(GRID) + 1), dtype=np.int64)

    def update(self, image: NDArray[np.int16], label: NDArray[np.uint8]) -> None:
        """Add a chip: image `[bands, H, W]`, label `[H, W]`."""
        pixels, valid = model_input(image)
        scored = valid & (label != IGNORE)
        values = self._index.values(pixels[:, scored])
        above = np.searchsorted(GRID, np.where(np.isnan(values), -np.inf, values), side="left")
        labelled = label[scored] == TARGET
        for row, chosen in enumerate((~labelled, labelled)):
            self._histogram[row] += np.bincount(above[chosen], minlength=len(GRID) + 1)

    def counts(self) -> list[Counts]:
        """The counts at each threshold of the grid."""
        positive = self._histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        total = self._histogram.sum(axis=1)
        return [
            Counts(int(tp), int(fp), int(total[1] - tp), int(total[0] - fp))
            for fp, tp in zip(positive[0], positive[1], strict=True)
        ]


@dataclass(frozen=True)
class TunedIndex:
    """The index of a dataset.

    Attributes:
        index: With its threshold.
        train: Its counts on the training split.
        validation: Its counts on the validation split.
        others: Validation IoU of every index that was tried, by name.
    """

    index: SpectralIndex
    train: Counts
    validation: Counts
    others: dict[str, float | None]


def tune(dataset: Dataset, data: DataSection) -> TunedIndex:
    """Thresholds by pooled IoU on the training split; of the indices the better on validation.

    Raises:
        UsageError: If the use case allows no index.
    """
    tuned = tune_each(dataset, data)
    # Where validation has no water every IoU is undefined or 0; the training split then decides.
    best = max(tuned, key=lambda t: (t.validation.iou or 0.0, t.train.iou or 0.0))
    return TunedIndex(best.index, best.train, best.validation, {t.index.name: t.validation.iou for t in tuned})


def tune_each(dataset: Dataset, data: DataSection) -> list[TunedIndex]:
    """Every index that the bands allow, each with its threshold by pooled IoU on the training split.

    Raises:
        UsageError: If the use case allows no index.
    """
    return [_tune(dataset, index) for index in indices(data)]


def _tune(dataset: Dataset, index: SpectralIndex) -> TunedIndex:
    at_each = _gather(dataset, index, "train")
    # Of equal ones the threshold nearest to 0, the one that the literature knows.
    best = max(range(len(GRID)), key=lambda k: (at_each[k].iou or 0.0, -abs(float(GRID[k]))))
    threshold = round(float(GRID[best]), 2)
    chosen = SpectralIndex(index.name, index.green, index.other, threshold)
    return TunedIndex(chosen, at_each[best], _gather(dataset, index, "validation")[best], {})


def _gather(dataset: Dataset, index: SpectralIndex, split: Split) -> list[Counts]:
    counts = ThresholdCounts(index)
    for chip in dataset.chips(split):
        counts.update(*dataset.read(chip))
    return counts.counts()


def index_graph(index: SpectralIndex, bands: int) -> ModelProto:
    """The index as an ONNX graph of standard operators: reflectance x 10000 to probabilities `[land, water]`.

    The probability is a logistic function of the distance to the threshold; it is held apart from one half on
    either side, so that the most probable class is exactly `index > threshold`, whatever float32 rounds.

    Args:
        index: With its threshold.
        bands: How many the input has.
    """
    from onnx import TensorProto as Type
    from onnx import checker, helper

    def constant(name: str, value: float) -> TensorProto:
        return helper.make_tensor(name, Type.FLOAT, [], [value])

    def picked(name: str, band: int) -> TensorProto:
        return helper.make_tensor(name, Type.INT64, [1], [band])

    def tensor(name: str, channels: int) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, Type.FLOAT, ["batch", channels, "height", "width"])

    steps = [
        ("Gather", ["reflectance", "green_band"], "green"),
        ("Gather", ["reflectance", "other_band"], "other"),
        ("Sub", ["green", "other"], "difference"),
        ("Add", ["green", "other"], "sum"),
        ("Div", ["difference", "sum"], "quotient"),
        ("IsNaN", ["quotient"], "undefined"),
        ("Where", ["undefined", "least", "quotient"], "index"),
        ("Greater", ["index", "threshold"], "above"),
        ("Sub", ["index", "threshold"], "distance"),
        ("Mul", ["distance", "steepness"], "logit"),
        ("Sigmoid", ["logit"], "likelihood"),
        ("Max", ["likelihood", "just_above"], "likelihood_above"),
        ("Min", ["likelihood", "half"], "likelihood_below"),
        ("Where", ["above", "likelihood_above", "likelihood_below"], "water"),
        ("Sub", ["one", "water"], "land"),
        ("Concat", ["land", "water"], "probability"),
    ]
    attributes: dict[str, dict[str, Any]] = {"Gather": {"axis": 1}, "Concat": {"axis": 1}}
    nodes = [
        helper.make_node(operator, inputs, [output], name=output, **attributes.get(operator, {}))
        for operator, inputs, output in steps
    ]
    graph = helper.make_graph(
        nodes,
        index.name,
        [tensor("reflectance", bands)],
        [tensor("probability", 2)],
        [
            picked("green_band", index.green),
            picked("other_band", index.other),
            constant("least", -1.0),
            constant("threshold", index.threshold),
            constant("steepness", STEEPNESS),
            constant("just_above", 0.5 + _MARGIN),
            constant("half", 0.5),
            constant("one", 1.0),
        ],
    )
    model = helper.make_model(
        graph, producer_name="terraloop", opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    checker.check_model(model, full_check=True)
    return model
