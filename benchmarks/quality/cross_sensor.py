"""A `water-hls` version offered for Sentinel-2: what the gate says of it on the hand-labelled chip.

The chip of `spain_chip` is cut into squares of 64 pixels, each a cell of its own. In every four of them, one is for
the index to be tuned on, one for it to be chosen by, one the holdout, one the test. None of it was seen by the
version that is offered, so the squares may touch; what they lend each other favours the index alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from benchmarks.quality.handmade import Piece, write_dataset
from benchmarks.quality.hls import make_dataset as make_hls_dataset
from benchmarks.quality.outcome import table, write
from benchmarks.quality.spain_chip import read_chip
from eo_data.dataset import Dataset
from eo_data.errors import GateRefused
from eo_data.store import Store
from eo_data.usecase import Split, UseCase, find_usecase
from eo_models.code_identity import code_identity
from eo_models.configuration import gate_section
from eo_models.evaluation import evaluate
from eo_models.evaluation_record import Evaluation
from eo_models.index_version import bootstrap, register_index
from eo_models.promotion import promote
from eo_models.registry import Registry
from eo_models.training import train

SIZE: Final = 64
SIDES: Final[tuple[tuple[Split, Split], tuple[Split, Split]]] = (("train", "validation"), ("holdout", "test"))
"""Of a square, by whether its row and its column are odd."""


def run(data: Path, scratch: Path, usecases: Path) -> bool:
    """Train `water-hls` as shipped, offer it, print and write what came of it; whether it is refused by its figures."""
    hls = UseCase.load(str(usecases / "water-hls"))
    store = Store(str(scratch / "store"))
    dataset = make_hls_dataset(data / "hls-water", scratch / "store", hls)
    started = time.process_time()
    offered = train(store, hls, dataset.uri)["model"]
    spent = time.process_time() - started
    usecase = load(usecases)
    target = make_dataset(store, usecase, data / "sen1floods11")
    outcome = offer(store, usecase, target, offered)
    lines = [(role, outcome["holdout"][role], outcome["test"][role]) for role in outcome["holdout"]]
    print(table(("Sentinel-2 chip, water IoU", "holdout (judged)", "test"), lines))
    print("\n".join((outcome["verdict"], *outcome["reasons"])))
    write("quality-cross-sensor", {**outcome, "cpu_seconds": round(spent, 1), "dataset": target.digest})
    return refused_by_figures(outcome, gate_section(usecase).min_cells)


def refused_by_figures(outcome: Mapping[str, Any], min_cells: int) -> bool:
    """Whether it is the figures that refuse a version: evidence enough, and a lower IoU than the index's on it.

    Args:
        outcome: What `offer` returns.
        min_cells: `gate.min_cells`.
    """
    candidate, index = (outcome["holdout"][role] for role in ("candidate", "index"))
    enough = outcome["holdout_cells_with_target"] >= min_cells
    worse = candidate is not None and index is not None and candidate < index
    return bool(outcome["verdict"] == "refused" and enough and worse)


def load(usecases: Path) -> UseCase:
    """The use case `water` with the coastal band, which HLS models read, and chips of 64 pixels."""
    sections = yaml.safe_load(find_usecase(str(usecases / "water")).read_text(encoding="utf-8"))
    sections["data"]["inputs"] = ["B01", *sections["data"]["inputs"]]
    sections["data"]["chip"] = {"size": SIZE, "min_valid_fraction": 0.1}
    return UseCase("water", sections)


def make_dataset(store: Store, usecase: UseCase, folder: Path) -> Dataset:
    """The Sentinel-2 chip in squares, reflectance and label as the product reads them."""
    image, label = read_chip(folder, usecase)
    squares = label.shape[0] // SIZE
    pieces = []
    for row in range(squares):
        for column in range(squares):
            window = np.s_[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
            name = f"r{row}c{column}"
            pixels = np.ascontiguousarray(image[(slice(None), *window)])
            pieces.append(Piece(name, SIDES[row % 2][column % 2], name, pixels, np.ascontiguousarray(label[window])))
    return write_dataset(store, usecase, pieces)


def offer(store: Store, usecase: UseCase, dataset: Dataset, model: str) -> dict[str, Any]:
    """Evaluate and promote, as the steps do, against the index that is tuned on the target data and champion there.

    Returns:
        `verdict`, `reasons`, and water IoU by role on `holdout` and `test`.
    """
    registry = Registry(usecase.name)
    bootstrap(registry, store, register_index(registry, usecase, dataset, code_identity()))
    uri = evaluate(store, usecase, model, dataset.uri, progress=False)["evaluation"]
    try:
        gate = promote(store, usecase, uri)["gate"]
    except GateRefused as refusal:
        gate = refusal.result["gate"]
    record = store.get_record(store.key(uri), Evaluation)
    figures: dict[str, Any] = {
        split: {role: pooled.iou for role, pooled in record.splits[split].pooled.items()}
        for split in ("holdout", "test")
    }
    return {**gate, **figures, "holdout_cells_with_target": record.holdout_cells_with_target}
