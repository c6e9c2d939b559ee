"""What real labels say of the indices, without training: figures measured elsewhere, met by the product's code."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.labels import read_label
from eo_data.rasters import open_image
from eo_data.usecase import IGNORE, UseCase
from eo_models.confusion import Counts, count, pool
from eo_models.spectral_index import GRID, SpectralIndex, ThresholdCounts, indices

ROOT = Path(__file__).parents[3]
Chip = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]


@pytest.fixture
def hls_chips() -> Path:
    """The labelled HLS chips, or a skip that says where they were looked for."""
    data = Path(os.environ.get("TERRALOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "hls-water").is_dir():
        pytest.skip(f"real data not found at {data}: set TERRALOOP_TEST_DATA")
    return data / "hls-water"


@pytest.fixture
def hls() -> UseCase:
    return UseCase.load(str(ROOT / "usecases" / "water-hls"))


def listed(folder: Path, name: str, usecase: UseCase) -> Iterator[Chip]:
    """Pixels, where they have data, and label of each chip of a list."""
    with (folder / f"{name}.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            with open_image(str(folder / row["image"]), usecase.data, where=row["image"]) as image:
                pixels, valid = image.read_all()
            yield pixels, valid, read_label(str(folder / row["label"]), usecase.data, row["label"])


def scored(index: SpectralIndex, chips: Iterator[Chip]) -> Counts:
    return pool(
        count(np.where(valid, index.mask(pixels), IGNORE).astype(np.uint8), label) for pixels, valid, label in chips
    )


def test_the_untuned_index_on_the_hls_test_list(hls_chips: Path, hls: UseCase) -> None:
    ndwi = indices(hls.data)[0]
    counts = scored(ndwi, listed(hls_chips, "test", hls))
    assert (ndwi.name, ndwi.threshold) == ("NDWI", 0)
    assert counts.iou == pytest.approx(0.530, abs=0.005)
    assert counts.f1 == pytest.approx(0.693, abs=0.005)


def test_the_index_tuned_on_the_hls_training_list(hls_chips: Path, hls: UseCase) -> None:
    ndwi = indices(hls.data)[0]
    gathered = ThresholdCounts(ndwi)
    for pixels, valid, label in listed(hls_chips, "train", hls):
        gathered.update(np.where(valid, np.rint(pixels), 0).astype(np.int16), label)
    at_each = gathered.counts()
    best = max(range(len(GRID)), key=lambda k: at_each[k].iou or 0)
    assert float(GRID[best]) == pytest.approx(-0.22)
    assert at_each[best].iou == pytest.approx(0.583, abs=0.005)
    tuned = SpectralIndex("NDWI", ndwi.green, ndwi.other, float(GRID[best]))
    assert scored(tuned, listed(hls_chips, "test", hls)).iou == pytest.approx(0.605, abs=0.005)
