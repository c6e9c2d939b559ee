"""What real labels say of the indices, without training: figures measured elsewhere, met by the product's code."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord
from eo_data.labels import read_label
from eo_data.rasters import open_image
from eo_data.usecase import IGNORE, UseCase
from eo_models.breakdown import summarise
from eo_models.configuration import GateSection
from eo_models.confusion import Counts, count, pool
from eo_models.contestants import ChipScore
from eo_models.spectral_index import GRID, SpectralIndex, ThresholdCounts, indices

ROOT = Path(__file__).parents[3]
Chip = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]


@pytest.fixture
def real_data() -> Path:
    """The real scenes, or a skip that says where they were looked for."""
    data = Path(os.environ.get("TERRALOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"real data not found at {data}: set TERRALOOP_TEST_DATA")
    return data


@pytest.fixture
def hls_chips(real_data: Path) -> Path:
    """The labelled HLS chips."""
    return real_data / "hls-water"


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


def test_chips_without_water_or_label_leave_pooled_figures_defined(real_data: Path) -> None:
    """38D has no water, Ghana_83483's label is -1 everywhere: undefined alone, and no NaN with others."""
    water = UseCase.load(str(ROOT / "usecases" / "water"))
    ndwi = indices(water.data)[0]
    flood = real_data / "sen1floods11"
    sources = {
        "spain": (flood / "S2Hand/Spain_7370579_S2Hand.tif", flood / "LabelHand/Spain_7370579_LabelHand.tif"),
        "dry": (real_data / "terramesh/S2L1C/38D_378R_2_3.tif", real_data / "terramesh/WaterLabel/38D_378R_2_3.tif"),
    }
    scores = []
    for name, (image, label) in sources.items():
        with open_image(str(image), water.data, where=name) as raster:
            pixels, valid = raster.read_all()
        mask = np.where(valid, ndwi.mask(pixels), IGNORE).astype(np.uint8)
        scores.append(chip_score(name, count(mask, read_label(str(label), water.data, name))))
    unknown = read_label(str(flood / "LabelHand/Ghana_83483_LabelHand.tif"), water.data, "Ghana_83483")
    assert (unknown == IGNORE).all()
    scores.append(chip_score("unknown", count(np.ones_like(unknown), unknown)))

    whole = summarise(scores, ["candidate"], frozenset(), {}, GateSection())
    alone = {scene.scene: scene.pooled["candidate"] for scene in whole.scenes}
    assert alone["dry"].iou is alone["unknown"].iou is alone["unknown"].precision is alone["dry"].recall is None
    assert sum(alone["unknown"].counts) == 0
    assert sum(alone["dry"].counts) == 224 * 224
    assert alone["spain"].iou == pytest.approx(0.676, abs=0.005)
    assert whole.pooled["candidate"].iou == alone["spain"].iou
    bounds = whole.intervals["candidate"]
    assert bounds.low == bounds.high == alone["spain"].iou  # resamples without water do not count
    assert "NaN" not in whole.model_dump_json()

    nothing = summarise(scores[1:], ["candidate"], frozenset(), {}, GateSection())
    assert nothing.pooled["candidate"].iou is nothing.intervals["candidate"].low is None


def chip_score(name: str, counts: Counts) -> ChipScore:
    record = ChipRecord(
        scene=name, shard=name, index=0, top=0, left=0, split="holdout", cell=name, valid_fraction=1, class_counts=()
    )
    return ChipScore(record, {"candidate": counts})
