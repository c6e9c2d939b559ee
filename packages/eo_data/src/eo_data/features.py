"""The feature row of a scene: what validation looks at, one flat record per scene and label."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.label_features import NO_LABEL, Sample, label_features
from eo_data.labels import LABEL_FILE
from eo_data.pixel_sample import SamplePlan, plan_sample
from eo_data.radiometry import UNIT
from eo_data.rasters import ImageRaster, open_tiff
from eo_data.scene import Scene
from eo_data.store import Store
from eo_data.usecase import DataSection

QUANTILES: Final = {"q02": 0.02, "q50": 0.5, "q98": 0.98}
FLOOR: Final = 0.001


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
    """The feature row of a scene: a pure function of its files, its label's and the use case.

    A scene of more than a million pixels is judged by a sample (`eo_data.pixel_sample`). What cannot be measured for a
    fault that has a column of its own is None; reflectance is x 10000.

    Columns, of the scene: `scene_id`, `collection`, `content`, `simulated`, `platform`, `month`, `crs`,
    `georeferenced`, `height`, `width`, `dtype`. Of its input bands: `bands_fault` (empty when all are there),
    `radiometry` and `radiometry_source`, `invalid_fraction`, per band `q02_`, `q50_` and
    `q98_<band>`, over the bands `brightest` (the greatest 98 % quantile), `second_darkest` (the least 2 % quantile
    but one), `floor_stated` or `floor_unstated` (the least 0.1 % quantile, by whether anything but the use case
    tells the radiometry), `flat_fraction` and `flat_value` (of pixels with data, the share of the commonest sensor
    value that a pixel holds in every band), `dark_band` (the low quantile of the use case's dark band). Of the label:
    `label_present`, `label_fault` (empty when it can be used), `label_ignored_fraction`, `label_unseen_fraction` (of
    scored pixels, those without image data).
    """
    taken = scene.properties.get("datetime")
    row: dict[str, Any] = {
        "scene_id": scene.id,
        "collection": scene.collection,
        "content": scene.content,
        "simulated": scene.simulated,
        "platform": scene.properties.get("platform"),
        "month": month_of(str(taken)) if taken else None,
    }
    with open_tiff(scene.raster_path, scene.id) as dataset:
        row |= {
            "crs": dataset.crs.to_string()[:40] if dataset.crs else "absent",
            "georeferenced": dataset.crs is not None,
            "height": dataset.height,
            "width": dataset.width,
            "dtype": dataset.dtypes[0],
        }
    features, sample = _image_features(scene, data)
    row |= features
    if label is None:
        return row | NO_LABEL
    path, record = store.raster_path(label.key), store.get_json(label.record)
    return row | label_features(path, record, scene.raster_path, scene.grid, sample, data)


def month_of(text: str) -> int:
    """The month of a STAC time."""
    try:
        return datetime.fromisoformat(text).month
    except ValueError:  # rarer forms: pystac knows them, but its import costs more than the row of a scene
        from pystac.utils import str_to_datetime

        return int(str_to_datetime(text).month)


def _image_features(scene: Scene, data: DataSection) -> tuple[dict[str, Any], Sample | None]:
    bands = [band.name for band in data.input_bands]
    row: dict[str, Any] = dict.fromkeys((
        "radiometry", "radiometry_source", "invalid_fraction", "brightest", "second_darkest",
        "floor_stated", "floor_unstated", "flat_fraction", "flat_value", "dark_band",
        *(f"{name}_{band}" for band in bands for name in QUANTILES),
    ))  # fmt: skip
    try:
        with scene.image(data) as image:
            rule, dark = image.radiometry, image.dark_value
            values, shown, plan = _sample(image)
    except DataRefused as fault:
        return {"bands_fault": fault.what, **row}, None
    pixels, valid = rule.reflectance(values)
    valid &= shown
    row |= {
        "bands_fault": "",
        "radiometry": str(rule),
        "radiometry_source": rule.source,
        "invalid_fraction": round(1.0 - float(valid.mean()), 6),
        "dark_band": None if dark is None else round((dark * rule.scale + rule.offset) * UNIT, 2),
    }
    if not valid.all():
        values, pixels = values[:, valid], pixels[:, valid]
    if pixels.shape[1]:
        *levels, floor = np.quantile(pixels, [*QUANTILES.values(), FLOOR], axis=1)
        row |= {
            f"{name}_{band}": round(float(value), 2)
            for name, level in zip(QUANTILES, levels, strict=True)
            for band, value in zip(bands, level, strict=True)
        }
        low, high = sorted(row[f"q02_{band}"] for band in bands), [row[f"q98_{band}"] for band in bands]
        row |= {"brightest": max(high), "second_darkest": low[min(1, len(low) - 1)]}
        row["floor_unstated" if rule.source == "usecase" and dark is None else "floor_stated"] = round(
            float(floor.min()), 2
        )
        row |= _flat(values)
    return row, Sample(plan, valid)


def _sample(image: ImageRaster) -> tuple[NDArray[Any], NDArray[np.bool_], SamplePlan]:
    """Sensor values `[bands, n]`, what a mask shows of them `[n]`, and which pixels these are."""
    plan = plan_sample(image.shape, image.blocks)
    parts = [image.sample(*window, plan.step) for window in plan.windows]
    values = np.concatenate([part.reshape(part.shape[0], -1) for part, _ in parts], axis=1)
    shown = np.concatenate([(np.ones(part.shape[1:], bool) if seen is None else seen).ravel() for part, seen in parts])
    return values, shown, plan


def _flat(values: NDArray[Any]) -> dict[str, Any]:
    """The commonest sensor value that pixels hold in every band, and its share; nothing to say of a single band."""
    if len(values) < 2:
        return {}
    same = values[0][(values == values[0]).all(axis=0)]
    if not same.size:
        return {"flat_fraction": 0.0}
    found, counts = np.unique(same, return_counts=True)
    return {
        "flat_fraction": round(int(counts.max()) / values.shape[1], 6),
        "flat_value": float(found[counts.argmax()]),
    }
