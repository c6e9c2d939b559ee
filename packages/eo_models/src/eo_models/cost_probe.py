"""The child process of `eo_models.costs`: one model, one thread, measured in a process of its own.

Reads `model.onnx`, `model.json`, `chip.npy` and `raster.npy` of the folder it is given, writes `cost.json` there.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from eo_data.model.description import ModelDescription
from eo_data.model.session import OnnxModel
from eo_data.tiling import Pixels

LEAST_RUNS = 3
MOST_RUNS = 5
SECONDS = 0.3
"""Runs are repeated until they have taken this long."""


def main(folder: Path) -> None:
    """Measure and write."""
    import onnxruntime  # noqa: F401  its own memory is there whatever the model

    description = ModelDescription.from_bytes((folder / "model.json").read_bytes())
    graph = (folder / "model.onnx").read_bytes()
    chip, raster = np.load(folder / "chip.npy"), np.load(folder / "raster.npy")
    before = _peak()
    model = OnnxModel(graph, description)
    large, runs = _median(model, raster)
    peak = _peak() - before
    small, _ = _median(model, chip)
    megapixels = raster[0].size / 1e6
    cost = {
        "chip_seconds": small,
        "megapixel_seconds": large / megapixels,
        "peak_memory": max(0, peak),
        "runs": runs,
    }
    (folder / "cost.json").write_text(json.dumps(cost))


def _median(model: OnnxModel, pixels: Pixels) -> tuple[float, int]:
    """Median CPU seconds of repeated runs, and how many; a first run, in which memory is laid out, does not count."""
    valid = np.ones(pixels.shape[1:], dtype=bool)
    model.probability(pixels, valid)
    taken: list[float] = []
    while len(taken) < LEAST_RUNS or (len(taken) < MOST_RUNS and sum(taken) < SECONDS):
        started = time.process_time()
        model.probability(pixels, valid)
        taken.append(time.process_time() - started)
    return statistics.median(taken), len(taken)


def _peak() -> int:
    """The greatest resident size so far, bytes."""
    try:
        # Linux's ru_maxrss begins with that of the process which started this one; VmHWM is this one's own.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
