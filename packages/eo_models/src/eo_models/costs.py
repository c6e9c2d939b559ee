"""What candidate, champion and index cost: CPU seconds and memory. Measured, never compared: machines differ."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError

from eo_data.dataset import Dataset
from eo_data.tiling import Pixels
from eo_models.contestants import Contestant, Way
from eo_models.evaluation_record import Costs, ModelCost
from eo_models.made_up_scenes import mosaic

log = logging.getLogger(__name__)

RASTER: Final = 512
"""Least side of the large raster, pixels."""

_LIMIT: Final = 600  # seconds for one model


def measure(contestants: Mapping[str, tuple[Contestant, bytes]], dataset: Dataset) -> Costs:
    """Measure models, each in a process of its own, one after the other and equal ones once.

    Args:
        contestants: By role, each with the bytes of its graph.
        dataset: Its test split lends the pixels.
    """
    raster = mosaic(dataset, dataset.chips("test"), RASTER)[0]
    size = dataset.manifest.chip_size
    by_way: dict[Way, ModelCost | None] = {}
    for contestant, graph in contestants.values():
        if contestant.way not in by_way:
            by_way[contestant.way] = _probe(contestant, graph, raster, size)
    measured = {role: by_way[contestant.way] for role, (contestant, _) in contestants.items()}
    return Costs(
        machine=_processor(),
        chip=size,
        raster=raster.shape[1],
        models={role: cost for role, cost in measured.items() if cost is not None},
    )


def _probe(contestant: Contestant, graph: bytes, raster: Pixels, size: int) -> ModelCost | None:
    with tempfile.TemporaryDirectory(prefix="terraloop-cost-") as name:
        folder, seen = Path(name), raster[contestant.bands]
        (folder / "model.onnx").write_bytes(graph)
        (folder / "model.json").write_bytes(contestant.description.to_bytes())
        np.save(folder / "raster.npy", seen)
        np.save(folder / "chip.npy", seen[:, :size, :size])
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            subprocess.run(
                [sys.executable, "-m", "eo_models.cost_probe", name],
                env={**os.environ, **one_thread},
                check=True,
                capture_output=True,
                timeout=_LIMIT,
            )
            return ModelCost.model_validate_json((folder / "cost.json").read_bytes())
        except (OSError, subprocess.SubprocessError, ValidationError) as error:
            # What it costs decides nothing: an evaluation without it is whole.
            log.warning("evaluate: the cost of %s could not be measured (%s)", contestant.uri, error)
            return None


def _processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
