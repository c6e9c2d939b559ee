"""What every variant has to do: 256 x 256 x 6 chips with labels, 16 to a float32 minibatch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.data.scene import USECASE, cut_quarters, make_scene
from eo_data.dataset import Dataset
from eo_data.store import Store
from eo_data.usecase import UseCase

CHIP: Final = 256
MINIBATCH: Final = 16


@dataclass(frozen=True)
class Workload:
    """A generated scene, as a file and as a dataset of chips.

    Attributes:
        folder: Everything lies in it.
        size: Height and width of the scene, pixels.
        image: The scene, `[6, size, size]` uint16.
        label: Its label.
        usecase: The use case.
        dataset: The scene's chips.
    """

    folder: Path
    size: int
    image: Path
    label: Path
    usecase: UseCase
    dataset: Dataset

    @property
    def mean(self) -> tuple[float, ...]:
        """Per band, of the training split."""
        return self.dataset.statistics.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Per band, of the training split."""
        return self.dataset.statistics.std

    def random_places(self, count: int, seed: int) -> NDArray[np.int64]:
        """First rows and columns of random windows inside the scene `[count, 2]`."""
        return np.random.default_rng(seed).integers(0, self.size - CHIP + 1, (count, 2))


def make_workload(folder: Path, size: int) -> Workload:
    """Generate the scene and cut its chips by `eo-data ingest`, `validate` and `chip`."""
    image, label = make_scene(folder / "scenes", size)
    cut_quarters(image, label, folder / "quarters", CHIP)
    store, usecase = make_store(folder, folder / "quarters")
    result = step("chip", usecase, store, "--verdicts", validated(usecase, store))
    return Workload(
        folder, size, image, label, UseCase.load(str(usecase)), Dataset(Store(str(store)), result["dataset"])
    )


def make_store(folder: Path, scenes: Path) -> tuple[Path, Path]:
    """A store that holds the scenes of a folder, and the use case's file; their paths."""
    usecase = folder / "benchmark" / "usecase.yaml"
    usecase.parent.mkdir(parents=True, exist_ok=True)
    usecase.write_text(yaml.safe_dump(USECASE), encoding="utf-8")
    store = folder / "store"
    batch = step("ingest", usecase, store, "--source", str(scenes))["batch"]
    (folder / "batch").write_text(batch, encoding="utf-8")
    return store, usecase


def validated(usecase: Path, store: Path) -> str:
    """The URI of the verdicts on the scenes that `make_store` brought."""
    batch = (store.parent / "batch").read_text(encoding="utf-8")
    return str(step("validate", usecase, store, "--batch", batch)["verdicts"])


def step(name: str, usecase: Path, store: Path, *flags: str) -> dict[str, Any]:
    """Run a step of eo-data as a user does; its result.

    Raises:
        RuntimeError: If it fails, with what it said.
    """
    command = [sys.executable, "-m", "eo_data", name, "--usecase", str(usecase), "--store", str(store), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"eo-data {name} ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
