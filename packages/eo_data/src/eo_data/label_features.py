"""What validation looks at of a label: its values, its grid, and how much of it the image shows.

The counts of its values come from its record where `ingest` wrote them; its pixels are read at the image's sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from eo_data.errors import DataRefused
from eo_data.labels import LabelRaster, class_indexes, open_label
from eo_data.pixel_sample import SamplePlan
from eo_data.rasters import open_tiff, same_grid
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
    path: str, record: dict[str, Any], image: str, grid: str, sample: Sample | None, data: DataSection
) -> dict[str, Any]:
    """The label's columns of a feature row (see `eo_data.features`).

    Args:
        path: What rasterio opens.
        record: Its `label.json`.
        image: What rasterio opens of the scene.
        grid: The scene's grid in words.
        sample: Of the image; None where that cannot be read.
        data: The use case's data section.
    """
    row: dict[str, Any] = {**NO_LABEL, "label_present": True, "label_ignored_fraction": None}
    try:
        if record.get("grid") != grid:  # the same grid may be told in other words: writers round
            _require_same_grid(image, path)
        with open_label(path, data, "label") as label:
            scored = _scored_pixels(label, record.get("values") or {})
            unseen = None if sample is None else _unseen_fraction(label, sample)
            height, width = label.shape
    except DataRefused as fault:
        return row | {"label_fault": fault.what}
    return row | {"label_ignored_fraction": round(1 - scored / (height * width), 6), "label_unseen_fraction": unseen}


def _require_same_grid(image: str, label: str) -> None:
    with open_tiff(image, "image") as scene, open_tiff(label, "label") as raster:
        difference = same_grid(scene, raster)
    if difference:
        raise DataRefused(f"it lies on another grid than the scene: {difference}", where="label")


def _scored_pixels(label: LabelRaster, counts: dict[str, int]) -> int:
    """How many pixels are of a class; each value must be of a class or ignored."""
    if counts and "more" not in counts:
        values = np.array([float(value) for value in counts])
        indexes = class_indexes(values, label.data, label.nodata)
        return int(sum(count for count, index in zip(counts.values(), indexes, strict=True) if index != IGNORE))
    height, width = label.shape
    strips = [(top, 0, min(ROWS, height - top), width) for top in range(0, height, ROWS)]
    return sum(int((label.read(*strip) != IGNORE).sum()) for strip in strips)


def _unseen_fraction(label: LabelRaster, sample: Sample) -> float | None:
    """Of the sample's pixels of a class, the share where the image has no data; None where either has none."""
    if not sample.valid.any():
        return None
    parts = [label.read(*window, step=sample.plan.step).ravel() for window in sample.plan.windows]
    scored = np.concatenate(parts) != IGNORE
    total = int(scored.sum())
    return round(float((scored & ~sample.valid).sum()) / total, 6) if total else None
