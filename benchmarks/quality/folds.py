"""Cross-validation by place inside the training list of `water-hls`: how its `train` section was chosen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.quality.handmade import Piece, write_dataset
from benchmarks.quality.hls import make_dataset
from benchmarks.quality.outcome import table, write
from benchmarks.quality.places import folds, places
from eo_data.dataset import ChipRecord, Dataset
from eo_data.store import Store
from eo_data.usecase import UseCase, find_usecase
from eo_models.configuration import train_section
from eo_models.confusion import Counts, pool
from eo_models.inputs import band_pairs
from eo_models.training import train_network
from eo_models.versions import score_split

COUNT: Final = 4
STRUCTURE: Final = (3, 4, 5)
"""Red, near and short-wave infrared: the bands whose fine structure tells places."""


def run(data: Path, scratch: Path, usecases: Path, changes: Sequence[str] = ()) -> bool:
    """Train on all folds but one, judge that one, for each; print and write the pooled water IoU.

    Args:
        data: The real scenes.
        scratch: An empty folder.
        usecases: Where the use case lies.
        changes: Changes of its `train` section, `name=value` with the value in YAML.
    """
    sections = yaml.safe_load(find_usecase(str(usecases / "water-hls")).read_text(encoding="utf-8"))
    changed = {name: yaml.safe_load(value) for name, _, value in (change.partition("=") for change in changes)}
    # Nothing is chosen by the fold that is judged: the last epoch counts.
    sections["train"] = {**sections["train"], **changed, "keep": "last"}
    usecase = UseCase("water-hls", sections)
    dataset = make_dataset(data / "hls-water", scratch / "store", usecase)
    chips = dataset.chips("train", "validation")  # the training list: the step parts it in two
    place, side = deal(dataset, chips)
    section = train_section(usecase)
    pairs = band_pairs(usecase.data, section.indices, "train.indices")
    parts: list[Counts] = []
    started = time.process_time()
    for fold in range(COUNT):
        own = fold_dataset(scratch / f"fold-{fold}", usecase, dataset, chips, place, side == fold)
        artifact = train_network(usecase, own, section, pairs, lambda figures, epoch: None, progress=True)
        parts.append(score_split(artifact.model().mask, own, "validation"))
    pooled = pool(parts).iou
    print(table(("fold", "water IoU"), [*enumerate(part.iou for part in parts), ("pooled", pooled)]))
    write(
        "quality-hls-folds",
        {
            "places": int(place.max()) + 1,
            "pooled": pooled,
            "folds": [part.iou for part in parts],
            "cpu_seconds": round(time.process_time() - started, 1),
            "train": section.model_dump(mode="json"),
        },
    )
    return True


def deal(dataset: Dataset, chips: Sequence[ChipRecord]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The place and the fold of each chip."""
    place = places(np.stack([dataset.read(chip)[0] for chip in chips]), STRUCTURE)
    water = np.array([chip.class_counts[1] / max(sum(chip.class_counts), 1) for chip in chips])
    return place, folds(place, water, COUNT)


def fold_dataset(
    folder: Path,
    usecase: UseCase,
    dataset: Dataset,
    chips: Sequence[ChipRecord],
    place: NDArray[np.intp],
    judged: NDArray[Any],
) -> Dataset:
    """The same chips with the judged fold as validation split, the rest as training split."""
    pieces = []
    for chip, number, apart in zip(chips, place, judged, strict=True):
        image, label = dataset.read(chip)
        pieces.append(Piece(chip.scene, "validation" if apart else "train", f"place-{number}", image, label))
    return write_dataset(Store(str(folder)), usecase, pieces)
