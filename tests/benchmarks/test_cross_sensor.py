"""What was tuned on HLS is offered for Sentinel-2, real chips of both: the gate refuses it, with both figures."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.cross_sensor import load, make_dataset, offer, refused_by_figures
from benchmarks.quality.handmade import Piece, write_dataset
from benchmarks.quality.spain_chip import read_chip
from eo_data.dataset import Dataset
from eo_data.errors import DataRefused
from eo_data.labels import read_label
from eo_data.model.ledger import Ledger
from eo_data.rasters import open_image
from eo_data.store import Store
from eo_data.usecase import IGNORE, Split, UseCase
from eo_models.code_identity import code_identity
from eo_models.confusion import count, pool
from eo_models.evaluation import evaluate
from eo_models.index_version import bootstrap, register_index
from eo_models.registry import Registry
from eo_models.spectral_index import indices

ROOT = Path(__file__).parents[2]
CHIPS = 40


@pytest.fixture
def real_data() -> Path:
    folder = Path(os.environ.get("TERRALOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set TERRALOOP_TEST_DATA")
    return folder


def hls_dataset(store: Store, usecase: UseCase, folder: Path) -> Dataset:
    """Some chips of the HLS training list, every fourth for validation."""
    pieces = []
    with (folder / "train.csv").open(encoding="utf-8") as lines:
        for number, row in zip(range(CHIPS), csv.DictReader(lines), strict=False):
            with open_image(str(folder / row["image"]), usecase.data, where=row["image"]) as raster:
                pixels, valid = raster.read_all()
            label = read_label(str(folder / row["label"]), usecase.data, row["label"])
            split: Split = "train" if number % 4 else "validation"
            image = np.where(valid, np.rint(pixels), 0).astype(np.int16)
            scored = np.where(valid, label, IGNORE).astype(np.uint8)
            pieces.append(Piece(f"hls{number:03d}", split, f"hls{number:03d}", image, scored))
    return write_dataset(store, usecase, pieces)


@pytest.mark.parametrize(
    ("verdict", "cells", "candidate", "met"),
    [
        ("refused", 8, 0.5, True),
        ("refused", 7, 0.5, False),  # not enough evidence
        ("refused", 8, 0.7, False),  # the interval was too wide, say
        ("refused", 8, None, False),
        ("promoted", 8, 0.7, False),
    ],
)
def test_the_goal_is_a_refusal_by_figures(verdict: str, cells: int, candidate: float | None, met: bool) -> None:
    holdout = {"candidate": candidate, "index": 0.6}
    outcome = {"verdict": verdict, "holdout": holdout, "holdout_cells_with_target": cells}
    assert refused_by_figures(outcome, min_cells=8) is met


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's use of SQLAlchemy
def test_an_hls_version_is_refused_for_sentinel_2_with_both_figures(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    store = Store(str(tmp_path / "store"))
    hls = UseCase.load(str(ROOT / "usecases" / "water-hls"))
    registry = Registry("water-hls")
    offered = register_index(registry, hls, hls_dataset(store, hls, real_data / "hls-water"), code_identity())

    usecase = load(ROOT / "usecases")
    dataset = make_dataset(store, usecase, real_data / "sen1floods11")
    outcome = offer(store, usecase, dataset, offered.uri)
    candidate, index = outcome["holdout"]["candidate"], outcome["holdout"]["index"]
    assert outcome["verdict"] == "refused"
    assert outcome["holdout_cells_with_target"] >= 8  # it is the figures that decide, not a lack of evidence
    assert refused_by_figures(outcome, min_cells=8)
    [reason] = outcome["reasons"]
    assert reason.startswith(
        f"does not beat the index, which is champion: holdout IoU {candidate:.3f} against {index:.3f}, difference -"
    )
    assert candidate < index - 0.1
    assert [entry.reason for entry in Ledger(store, "water").entries()] == ["bootstrap"]
    assert Ledger(store, "water-hls").entries() == []

    # The squares are the chip: pooled over all of them NDWI and MNDWI are what was measured elsewhere.
    ndwi, mndwi = indices(usecase.data)
    for plain, published in ((ndwi, 0.676), (mndwi, 0.612)):
        parts = [
            count(plain.mask(image.astype(np.float32)), label)
            for image, label in (dataset.read(chip) for chip in dataset.chips())
        ]
        assert pool(parts).iou == pytest.approx(published, abs=0.005)
    assert read_chip(real_data / "sen1floods11", usecase)[1].shape == (512, 512)

    shipped = UseCase.load(str(ROOT / "usecases" / "water"))  # its chips have no coastal band
    narrow = write_dataset(
        store,
        shipped,
        [Piece("a", "train", "a", np.ones((6, 64, 64), np.int16), np.eye(64, dtype=np.uint8)),
         Piece("b", "validation", "b", np.ones((6, 64, 64), np.int16), np.eye(64, dtype=np.uint8))],
    )  # fmt: skip
    bootstrap(Registry("water"), store, register_index(Registry("water"), shipped, narrow, code_identity()))
    with pytest.raises(DataRefused, match="reads band coastal, the dataset has B02"):
        evaluate(store, shipped, offered.uri, narrow.uri, progress=False)
