"""The one hand-labelled Sentinel-2 chip: one column half for training, the other for judging, both ways.

The halves are of this experiment alone. Each half is read, predicted and tiled as a raster of its own: what is
judged has lent nothing to the training, not even context at the border.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.quality.handmade import Piece, write_dataset
from benchmarks.quality.outcome import table, write
from benchmarks.quality.spain_chip import read_chip
from eo_data.dataset import Dataset, model_input
from eo_data.store import Store
from eo_data.usecase import IGNORE, Split, UseCase, find_usecase
from eo_models.configuration import train_section
from eo_models.confusion import Counts, count, pool
from eo_models.inputs import band_pairs
from eo_models.spectral_index import tune
from eo_models.training import train_network

SECTIONS: Final = Path(__file__).with_name("spain.yaml")
HALVES: Final = {"left": slice(0, 256), "right": slice(256, 512)}
WAYS: Final = (("left", "right", 0.84, 0.842), ("right", "left", 0.76, 0.757))
"""Training half, judged half, goal, and what gradient boosting on 13 bands, 3 indices and 5 x 5 means reached."""

STRIP: Final = 64
"""Columns of a fold inside a half."""

Half = tuple[NDArray[np.int16], NDArray[np.uint8]]


def run(data: Path, scratch: Path, usecases: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> bool:
    """Train, judge, print and write the results; whether both goals are met by the mean of the seeds."""
    halves = read_halves(data / "sen1floods11", load(usecases))
    ways, lines = [], []
    for learned, judged, goal, boosting in WAYS:
        rows = []
        for seed in seeds:
            usecase = load(usecases, seed)
            dataset = make_dataset(scratch / f"{learned}-{seed}", usecase, halves[learned])
            rows.append({"seed": seed, **train_and_judge(usecase, dataset, halves[judged])})
            print(f"{learned} -> {judged}, seed {seed}: {rows[-1]}", flush=True)
        name, mean = f"{learned} -> {judged}", float(np.mean([row["iou"] for row in rows]))
        ways.append({"way": name, "goal": goal, "mean": mean, "met": mean >= goal, "boosting": boosting, "seeds": rows})
        figures = ", ".join(f"{row['iou']:.4f}" for row in rows)
        lines.append((name, mean, figures, goal, boosting, rows[0]["index_iou"], "yes" if mean >= goal else "no"))
    head = ("Spain chip, water IoU", "mean", "by seed", "goal", "boosting", "index tuned on the half", "met")
    print(table(head, lines))
    section = train_section(load(usecases)).model_dump(mode="json")
    write("quality-spain", {"ways": ways, "train": section})
    return all(way["met"] for way in ways)


def load(usecases: Path, seed: int = 0) -> UseCase:
    """The use case `water` with what `spain.yaml` says otherwise."""
    sections = yaml.safe_load(find_usecase(str(usecases / "water")).read_text(encoding="utf-8"))
    own = yaml.safe_load(SECTIONS.read_text(encoding="utf-8"))
    return UseCase(
        "water-spain",
        {
            "title": "Water of one chip",
            "data": {**sections["data"], **own["data"]},
            "train": {**own["train"], "seed": seed},
        },
    )


def read_halves(folder: Path, usecase: UseCase) -> dict[str, Half]:
    """Image int16 `[bands, 512, 256]` and label uint8 `[512, 256]` of each half."""
    image, scored = read_chip(folder, usecase)
    return {name: (image[:, :, columns], scored[:, columns]) for name, columns in HALVES.items()}


def run_folds(data: Path, scratch: Path, usecases: Path) -> bool:
    """Cross-validation inside each half, by which `spain.yaml` was chosen; prints and writes pooled water IoU.

    A half is four strips of 64 columns. Three are learned from, the fourth is judged; the other half is not read.
    """
    usecase = load(usecases)
    halves = read_halves(data / "sen1floods11", usecase)
    result = {}
    for name, half in halves.items():
        parts = []
        for first in range(0, half[1].shape[1], STRIP):
            strip = slice(first, first + STRIP)
            judged = (half[0][:, :, strip], half[1][:, strip])
            rest = [(half[0][:, :, part], half[1][:, part]) for part in (slice(0, first), slice(first + STRIP, None))]
            dataset = make_dataset(scratch / f"{name}-{first}", usecase, *rest)
            parts.append(train_and_judge(usecase, dataset, judged))
            print(f"{name}, columns {first}: {parts[-1]['iou']:.4f}", flush=True)
        result[name] = pool(Counts(*part["counts"]) for part in parts).iou
    print(table(("Spain chip, cross-validation inside", "water IoU"), list(result.items())))
    write("quality-spain-folds", {"halves": result, "train": train_section(usecase).model_dump(mode="json")})
    return True


def make_dataset(folder: Path, usecase: UseCase, *parts: Half) -> Dataset:
    """A dataset of overlapping chips of what is learned from, a half or what is left of it.

    The step wants a validation split to watch; here it is four of the training chips again, and nothing is chosen
    by it: `train.keep` is `last`.
    """
    size = usecase.data.chip.size
    pieces = []
    for number, (image, label) in enumerate(parts):
        for top in range(0, image.shape[1] - size + 1, size // 2):
            for left in range(0, image.shape[2] - size + 1, size // 2):
                window = np.s_[top : top + size, left : left + size]
                pieces.append((f"p{number}r{top:03d}c{left:03d}", image[(slice(None), *window)], label[window]))
    watched = pieces[:: len(pieces) // 4][:4]
    sides: list[tuple[Split, list[tuple[str, NDArray[np.int16], NDArray[np.uint8]]]]] = [
        ("train", pieces),
        ("validation", watched),
    ]
    return write_dataset(
        Store(str(folder)),
        usecase,
        [
            Piece(f"{split}-{name}", split, name, np.ascontiguousarray(chip), np.ascontiguousarray(chip_label))
            for split, chosen in sides
            for name, chip, chip_label in chosen
        ],
    )


def train_and_judge(usecase: UseCase, dataset: Dataset, judged: Half) -> dict[str, Any]:
    """Train as the `train` step does; the exported graph's figures on the other half, beside the tuned index."""
    section = train_section(usecase)
    pairs = band_pairs(usecase.data, section.indices, "train.indices")
    started = time.process_time()
    artifact = train_network(usecase, dataset, section, pairs, lambda figures, epoch: None, progress=True)
    spent = time.process_time() - started
    image, label = judged
    pixels, valid = model_input(image)
    found = count(artifact.model().mask(pixels, valid), label)
    index = tune(dataset, usecase.data).index
    by_index = count(np.where(valid, index.mask(pixels), IGNORE).astype(np.uint8), label)
    return {
        **found.figures(),
        "counts": found.as_list(),
        "index": f"{index.name} > {index.threshold:g}",
        "index_iou": by_index.iou,
        "cpu_seconds": round(spent, 1),
    }
