"""`water-hls` from its training list, three seeds, judged on its test list: pooled water IoU beside the indices."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from benchmarks.quality.outcome import table, write
from eo_data.chips import chip
from eo_data.dataset import Dataset, model_input
from eo_data.ingest import ingest
from eo_data.store import Store
from eo_data.usecase import Split, UseCase, find_usecase
from eo_data.validate import validate
from eo_models.configuration import train_section
from eo_models.confusion import Counts, count, pool
from eo_models.index_version import tuned_index, untuned_index
from eo_models.inputs import band_pairs
from eo_models.spectral_index import SpectralIndex
from eo_models.training import train_network
from eo_models.versions import score_split

GOAL: Final = 0.66
SEEDS: Final = (0, 1, 2)
FMASK_BAND: Final = 8
FMASK_WATER: Final = 5
"""The bit of HLS's own mask that says water."""


def make_dataset(source: Path, store: Path, usecase: UseCase) -> Dataset:
    """The dataset that `ingest`, `validate` and `chip` make of the folder, with the lists' split by place."""
    place = Store(str(store))
    batch = ingest(place, usecase, str(source), progress=False)["batch"]
    verdicts = validate(place, usecase, batch=batch, progress=False)["verdicts"]
    return Dataset(place, chip(place, usecase, verdicts, progress=False)["dataset"])


def run(data: Path, scratch: Path, usecases: Path, processes: int = 1) -> bool:
    """Train, judge, print and write the results; whether the goal is met.

    Args:
        data: The real scenes.
        scratch: An empty folder.
        usecases: Where the use case lies.
        processes: How many seeds are trained at once; the weights do not depend on it.
    """
    path = find_usecase(str(usecases / "water-hls"))
    sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    usecase = UseCase("water-hls", sections)
    dataset = make_dataset(data / "hls-water", scratch / "store", usecase)
    baselines = score_baselines(dataset, usecase, data / "hls-water" / "images")
    one = partial(train_and_judge, sections, str(scratch / "store"), dataset.uri)
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:  # spawned: a fork of torch may hang
        for row in pool.map(one, SEEDS):
            rows.append(row)
            print(row, flush=True)
    mean = float(np.mean([row["test_iou"] for row in rows]))
    met = mean >= GOAL
    lines = [
        *[(f"U-Net, seed {row['seed']}", row["test_iou"], row["cpu_seconds"]) for row in rows],
        ("**U-Net, mean of the seeds**", mean, None),
        *[(name, counts.iou, None) for name, counts in baselines.items()],
    ]
    print(table(("water-hls, test list (35 chips, pooled)", "water IoU", "CPU-s of training"), lines))
    print(f"goal: mean >= {GOAL}: {'met' if met else f'missed by {GOAL - mean:.4f}'}")
    write(
        "quality-hls",
        {
            "goal": GOAL,
            "mean": mean,
            "met": met,
            "seeds": rows,
            "baselines": {name: counts.figures() for name, counts in baselines.items()},
            "train": train_section(usecase).model_dump(mode="json"),
            "dataset": dataset.digest,
        },
    )
    return met


def train_and_judge(sections: dict[str, Any], store: str, uri: str, seed: int) -> dict[str, Any]:
    """One training as the `train` step does it; the exported graph's pooled figures, through the serving tiles."""
    warnings.simplefilter("ignore", DeprecationWarning)  # as in the process that asks
    usecase = UseCase("water-hls", {**sections, "train": {**sections["train"], "seed": seed}})
    dataset = Dataset(Store(store), uri)
    section = train_section(usecase)
    pairs = band_pairs(usecase.data, section.indices, "train.indices")
    started = time.process_time()
    artifact = train_network(usecase, dataset, section, pairs, lambda figures, epoch: None, progress=True)
    spent = time.process_time() - started
    test = score_split(artifact.model().mask, dataset, "test")
    return {
        "seed": seed,
        "test_iou": test.iou,
        "test_precision": test.precision,
        "test_recall": test.recall,
        "validation_iou": artifact.description.metrics["validation_iou"],
        "precision": artifact.description.parameters["precision"],
        "weights": artifact.description.total_parameters,
        "cpu_seconds": round(spent, 1),
    }


def score_baselines(dataset: Dataset, usecase: UseCase, images: Path) -> dict[str, Counts]:
    """What needs no network, pooled on the test list: the untuned index, the tuned ones, HLS's own mask."""
    tuned = tuned_index(usecase, dataset)
    found = {
        "NDWI > 0": score_split(untuned_index(usecase, dataset).model().mask, dataset, "test"),
        f"{tuned.description.architecture} > {tuned.description.parameters['threshold']:g}, tuned on training": (
            score_split(tuned.model().mask, dataset, "test")
        ),
        "NDWI > -0.22": score_index(SpectralIndex("NDWI", 2, 4, -0.22), dataset, "test"),
        "Fmask's water bit": score_fmask(dataset, images),
    }
    if len({sum(counts.as_list()) for counts in found.values()}) != 1:
        raise RuntimeError("the baselines are pooled over different pixels")
    return found


def score_index(index: SpectralIndex, dataset: Dataset, split: Split) -> Counts:
    """Pooled counts of an index on a split."""
    parts = []
    for chip_record in dataset.chips(split):
        image, label = dataset.read(chip_record)
        pixels, valid = model_input(image)
        parts.append(count(np.where(valid, index.mask(pixels), 255).astype(np.uint8), label))
    return pool(parts)


def score_fmask(dataset: Dataset, images: Path) -> Counts:
    """Pooled counts of HLS's own mask on the test split: the same pixels as everything else is judged on."""
    import rasterio
    from rasterio.windows import Window

    parts = []
    for chip_record in dataset.chips("test"):
        _, label = dataset.read(chip_record)
        window = Window(chip_record.left, chip_record.top, *reversed(label.shape))
        with rasterio.open(images / f"{chip_record.scene}.tif") as image:
            mask = (image.read(FMASK_BAND, window=window) >> FMASK_WATER & 1).astype(np.uint8)
        parts.append(count(mask, label))
    return pool(parts)
