"""What a champion was trained on, as drift looks at it: a unit per scene of its training split.

```
monitoring/references/<dataset-digest>-<format>.json      made once, kept beside the reports
```
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from eo_data.dataset import ChipRecord, Dataset, SceneRecord, model_input
from eo_data.errors import TemporaryFailure, TerraloopError
from eo_data.scene import Scene
from eo_data.store import Store
from eo_serving.drift import Unit
from eo_serving.input_sample import InputSample

log = logging.getLogger(__name__)

_FORMAT: Final = 1
"""Of what is kept; what an earlier version of this code has kept is not read."""
_SCENES: Final = 500
"""Scenes that are looked at; of more, so many evenly chosen."""
_MONTH: Final = re.compile(r"\d{4}-(\d{2})-")


class _Scene(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    month: int | None
    quantiles: tuple[tuple[float, ...], ...]
    class_fractions: tuple[float, ...]


class _Reference(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    bands: tuple[str, ...]
    scenes: tuple[_Scene, ...]


def reference_units(store: Store, dataset_digest: str) -> list[Unit]:
    """A unit per scene of a dataset's training split; read from its chips once, and kept.

    Raises:
        DataRefused: If the dataset is not in the store.
    """
    key = f"monitoring/references/{dataset_digest}-{_FORMAT}.json"
    if not store.exists(key):
        dataset = Dataset(store, f"datasets/{dataset_digest}")
        store.put_json_new(key, _make(store, dataset).model_dump(mode="json"))
    kept = store.get_record(key, _Reference)
    return [Unit(scene.quantiles, scene.class_fractions, scene.month) for scene in kept.scenes]


def _make(store: Store, dataset: Dataset) -> _Reference:
    by_scene: dict[str, list[ChipRecord]] = defaultdict(list)
    for chip in dataset.chips("train"):
        by_scene[chip.scene].append(chip)
    names = sorted(by_scene)
    if len(names) > _SCENES:
        names = [names[number * len(names) // _SCENES] for number in range(_SCENES)]
    records = {record.id: record for record in dataset.manifest.scenes}
    log.info("monitor: the reference is made of %d scenes of dataset %s", len(names), dataset.digest[:12])
    return _Reference(
        dataset=dataset.digest,
        bands=dataset.manifest.bands,
        scenes=tuple(_scene(dataset, by_scene[name], _month(store, records[name])) for name in names),
    )


def _scene(dataset: Dataset, chips: list[ChipRecord], month: int | None) -> _Scene:
    """The chips of one scene as one unit; their labels are its classes."""
    sample = InputSample(len(dataset.manifest.classes))
    for chip in chips:
        pixels, valid = model_input(dataset.read(chip)[0])
        sample.begin((valid.shape[0], valid.shape[1]))
        sample.take(pixels, valid)
    counts = np.sum([chip.class_counts for chip in chips], axis=0)
    return _Scene(
        month=month,
        quantiles=sample.statistics().quantiles,
        class_fractions=tuple(float(n) for n in (counts / max(int(counts.sum()), 1)).round(5)),
    )


def _month(store: Store, record: SceneRecord) -> int | None:
    """The month that a scene's item says; None where it says none, or is gone."""
    try:
        taken = Scene.load(store, record.uri).item.get("properties", {}).get("datetime")
    except TemporaryFailure:
        raise
    except TerraloopError:
        return None
    found = _MONTH.match(str(taken))
    return int(found[1]) if found else None
