"""The feature row of a scene: what validation looks at, one flat record per scene and label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.labels import LABEL_FILE, read_label
from eo_data.rasters import ImageRaster, open_tiff
from eo_data.scene import Scene
from eo_data.store import Store
from eo_data.usecase import IGNORE, DataSection

QUANTILES: Final = (0.02, 0.98)
SAMPLE_WINDOW: Final = 512
SAMPLE_WINDOWS: Final = 16
"""A scene is judged on at most 16 windows of 512 pixels, evenly spread: enough for quantiles, cheap at any size."""


@dataclass(frozen=True)
class LabelKey:
    """Where a label lies: `labels/<id>/<source>/<content>/`."""

    id: str
    source: str
    content: str

    @property
    def key(self) -> str:
        """The key of its raster."""
        return f"labels/{self.id}/{self.source}/{self.content}/{LABEL_FILE}"

    @property
    def record(self) -> str:
        """The key of what is known of it."""
        return f"labels/{self.id}/{self.source}/{self.content}/label.json"


def feature_row(store: Store, scene: Scene, label: LabelKey | None, data: DataSection) -> dict[str, Any]:
    """The feature row of a scene.

    Columns: `scene_id`, `crs`, `georeferenced`, `height`, `width`, `dtype`, `bands_fault` (empty when all
    input bands are there), `invalid_fraction`, `q02_<band>` and `q98_<band>` (reflectance x 10000, None
    without data), `label_present`, `label_fault` (empty when it reads), `label_ignored_fraction`. What cannot be
    measured for a fault that has a column of its own is None.
    """
    row: dict[str, Any] = {
        "scene_id": scene.id,
        "collection": scene.collection,
        "content": scene.content,
        "simulated": scene.simulated,
    }
    with open_tiff(scene.raster_path, scene.id) as dataset:
        row |= {
            "crs": dataset.crs.to_string()[:40] if dataset.crs else "absent",
            "georeferenced": dataset.crs is not None,
            "height": dataset.height,
            "width": dataset.width,
            "dtype": dataset.dtypes[0],
        }
    row |= _image_features(scene, data)
    return row | _label_features(store, label, data)


def _image_features(scene: Scene, data: DataSection) -> dict[str, Any]:
    quantiles: dict[str, Any] = {
        f"q{round(q * 100):02d}_{band.name}": None for band in data.input_bands for q in QUANTILES
    }
    try:
        with scene.image(data) as image:
            pixels, valid = _sample(image)
    except DataRefused as fault:
        return {"bands_fault": fault.what, "invalid_fraction": None, **quantiles}
    if valid.any():
        values = np.quantile(pixels[:, valid], QUANTILES, axis=1)
        for number, band in enumerate(data.input_bands):
            for q, value in zip(QUANTILES, values[:, number], strict=True):
                quantiles[f"q{round(q * 100):02d}_{band.name}"] = round(float(value), 2)
    return {"bands_fault": "", "invalid_fraction": round(1.0 - float(valid.mean()), 6), **quantiles}


def _sample(image: ImageRaster) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reflectance `[bands, n]` and validity `[n]` of windows spread over an image; all of it where it is small."""
    height, width = image.shape
    tops = range(0, height, SAMPLE_WINDOW)
    lefts = range(0, width, SAMPLE_WINDOW)
    windows = [(top, left) for top in tops for left in lefts]
    if len(windows) > SAMPLE_WINDOWS:
        chosen = np.linspace(0, len(windows) - 1, SAMPLE_WINDOWS).round().astype(int)
        windows = [windows[index] for index in chosen]
    parts = [
        image.read(top, left, min(SAMPLE_WINDOW, height - top), min(SAMPLE_WINDOW, width - left))
        for top, left in windows
    ]
    pixels = np.concatenate([part.reshape(part.shape[0], -1) for part, _ in parts], axis=1)
    return pixels, np.concatenate([valid.ravel() for _, valid in parts])


def _label_features(store: Store, label: LabelKey | None, data: DataSection) -> dict[str, Any]:
    empty = {"label_present": False, "label_fault": "", "label_ignored_fraction": 0.0}
    if label is None:
        return empty
    try:
        indexes = read_label(store.raster_path(label.key), data, label.id)
    except DataRefused as fault:
        return {"label_present": True, "label_fault": fault.what, "label_ignored_fraction": None}
    ignored = round(float((indexes == IGNORE).mean()), 6)
    return {"label_present": True, "label_fault": "", "label_ignored_fraction": ignored}
