"""What validation looks at of a label: its values, its grid, and how much of it the image shows.

The counts of its values come from its record where `ingest` wrote them; its pixels are read at the image's sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eo_data.errors import DataRefused
from eo_data.labels import class_indexes
from eo_data.pixel_sample import SamplePlan
from eo_data.rasters import mask_reader, open_tiff
from eo_data.tiling import Valid
from eo_data.usecase import IGNORE, DataSection

NO_LABEL: Final = {
    "label_present": False, "label_fault": "", "label_ignored_fraction": 0.0, "label_unseen_fraction": None,
}  # fmt: skip
ROWS: Final = 512


@dataclass(frozen=True)
class Sample:
    """Where an image was looked at, and where it has data there `[n]`, window after window."""

    plan: SamplePlan
    valid: Valid


def label_features(
    path: str, record: dict[str, Any], grid: str, sample: Sample | None, data: DataSection
) -> dict[str, Any]:
    """The label's columns of a feature row (see `eo_data.features`).

    Args:
        path: What rasterio opens.
        record: Its `label.json`.
        grid: The scene's grid in words.
        sample: Of the image; None where that cannot be read.
        data: The use case's data section.
    """
    row: dict[str, Any] = {**NO_LABEL, "label_present": True, "label_ignored_fraction": None}
    if record.get("grid") != grid:
        return row | {"label_fault": f"it lies on another grid than the scene: {record.get('grid')}, not {grid}"}
    try:
        with open_tiff(path, "label") as dataset:
            if dataset.count != 1:
                raise DataRefused(f"a label has one band, this one has {dataset.count}", where="label")
            scored = _scored_pixels(dataset, record, data)
            unseen = None if sample is None else _unseen_fraction(dataset, sample, data)
            total = dataset.height * dataset.width
    except DataRefused as fault:
        return row | {"label_fault": fault.what}
    return row | {"label_ignored_fraction": round(1 - scored / total, 6), "label_unseen_fraction": unseen}


def _scored_pixels(dataset: Any, record: dict[str, Any], data: DataSection) -> int:
    """How many pixels are of a class; each value must be of a class or ignored."""
    counts = record.get("values")
    if not counts or "more" in counts or mask_reader(dataset, (1,)) is not None:
        height, width = dataset.shape
        strips = [(top, 0, min(ROWS, height - top), width) for top in range(0, height, ROWS)]
        return sum(int((_indexes(dataset, strip, 1, data) != IGNORE).sum()) for strip in strips)
    values = np.array([float(value) for value in counts])
    indexes = class_indexes(values, data, dataset.nodata)
    return int(sum(count for count, index in zip(counts.values(), indexes, strict=True) if index != IGNORE))


def _unseen_fraction(dataset: Any, sample: Sample, data: DataSection) -> float | None:
    """Of the sample's pixels of a class, the share where the image has no data; None where either has none."""
    if not sample.valid.any():
        return None
    parts = [_indexes(dataset, window, sample.plan.step, data).ravel() for window in sample.plan.windows]
    scored = np.concatenate(parts) != IGNORE
    total = int(scored.sum())
    return round(float((scored & ~sample.valid).sum()) / total, 6) if total else None


def _indexes(dataset: Any, place: tuple[int, int, int, int], step: int, data: DataSection) -> NDArray[np.uint8]:
    top, left, height, width = place
    window = Window(left, top, width, height)
    mask = mask_reader(dataset, (1,))
    hidden = None if mask is None else mask(window=window)[::step, ::step] == 0
    return class_indexes(dataset.read(1, window=window)[::step, ::step], data, dataset.nodata, hidden)
