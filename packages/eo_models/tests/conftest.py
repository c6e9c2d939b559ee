"""A small dataset of plain, made-up spectra that no single index can tell apart, and a registry of its own."""

from __future__ import annotations

import io
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord, Dataset, Manifest, SceneRecord
from eo_data.statistics import RunningStatistics
from eo_data.store import Store
from eo_data.usecase import SPLITS, Split, UseCase
from eo_models.index_version import bootstrap, index_artifact
from eo_models.registry import KIND_TAG, Registry, Version
from eo_models.spectral_index import indices
from eo_models.tracking import DATASET_TAG

from .tracking_server import TrackingServer

SIZE = 32
BANDS = ("blue", "green", "nir", "swir16")

SPECTRA = {
    "land": (600, 900, 2600, 2200),
    "water": (700, 900, 300, 150),
    "roof": (2400, 2300, 750, 2600),  # as high in NDWI as water
    "snow": (4200, 4300, 4600, 500),  # higher in MNDWI than water
}

SECTIONS: dict[str, object] = {
    "title": "Made-up water",
    "data": {
        "sensor": "made-up",
        "bands": [{"name": name} for name in BANDS],
        "inputs": list(BANDS),
        "classes": [
            {"name": "land", "color": "#d9c9a3", "label_values": [0]},
            {"name": "water", "color": "#1f6fd1", "label_values": [1]},
        ],
        "chip": {"size": SIZE},
        "split": {"salt": "made-up"},
    },
    "train": {
        "channels": 4,
        "convolutions": [1, 1, 1, 1],
        "tiles": {"tile": 96, "halo": 32, "blend": 0},
        "epochs": 6,
        "patience": 6,
        "minibatch": 4,
        "learning_rate": 0.02,
        "averaging": 0.8,
        "threads": 1,
    },
    "gate": {"min_cells": 4, "resamples": 400},
}


def pytest_configure(config: pytest.Config) -> None:
    """MLflow 3.17 uses what SQLAlchemy 2.1 has deprecated; nothing here could change that."""
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning")


@dataclass(frozen=True)
class World:
    """A use case, a store with one dataset, and a tracking database, each test its own."""

    usecase: UseCase
    usecase_file: Path
    store: Store
    dataset: Dataset
    database: Path


def made_up_chip(rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A chip with a lake, a roof and a snow field on land, noise, some pixels without data and some not scored."""
    kinds = np.zeros((SIZE, SIZE), dtype=int)
    for kind in (1, 2, 3):
        top, left = rng.integers(0, SIZE - 14, 2)
        kinds[top : top + 14, left : left + 14] = kind
    spectra = np.array([SPECTRA[name] for name in ("land", "water", "roof", "snow")])
    pixels = spectra[kinds] + rng.normal(0, 60, (SIZE, SIZE, len(BANDS)))
    image = np.clip(np.rint(pixels), 1, 10000).astype(np.int16).transpose(2, 0, 1).copy()
    label = (kinds == 1).astype(np.uint8)
    label[:2, :4] = 255
    image[:, -2:, -3:] = 0
    label[-2:, -3:] = 255
    return image, label


def write_dataset(store: Store, usecase: UseCase, digest: str, counts: dict[Split, int], seed: int = 0) -> Dataset:
    """A dataset in the documented layout, a scene and a cell per chip."""
    rng = np.random.default_rng(seed)
    statistics = RunningStatistics(len(BANDS), 2)
    chips, scenes = [], []
    for split in SPLITS:
        for number in range(counts[split]):
            image, label = made_up_chip(rng)
            name = f"{split}-{number:02d}"
            for kind, array in (("images", image[None]), ("labels", label[None])):
                stream = io.BytesIO()
                np.save(stream, array)
                store.put_new(f"datasets/{digest}/chips/{name}.{kind}.npy", stream.getvalue())
            counted = tuple(int((label == k).sum()) for k in (0, 1))
            chips.append(
                ChipRecord(
                    scene=name, shard=name, index=0, top=0, left=0, split=split, cell=name, valid_fraction=1.0,
                    class_counts=counted,
                )
            )  # fmt: skip
            scenes.append(
                SceneRecord(
                    id=name, uri=store.uri, collection="made-up", pixels="", label="", grid="", radiometry="",
                    bands=(1, 2, 3, 4), place=None, source_split=None, simulated=True,
                )
            )  # fmt: skip
            if split == "train":
                statistics.update(image, label)
    manifest = Manifest(
        digest=digest, chip_format=1, usecase=usecase.name, usecase_data_digest=usecase.digest("data"), bands=BANDS,
        classes=("land", "water"), chip_size=SIZE, scenes=tuple(scenes), chips=tuple(chips), dropped={},
        git_commit=None,
    )  # fmt: skip
    store.put_json_new(f"datasets/{digest}/statistics.json", statistics.result().model_dump(mode="json"))
    store.put_json_new(f"datasets/{digest}/manifest.json", manifest.model_dump(mode="json"))
    return Dataset(store, f"datasets/{digest}")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database: made once, copied for each test, since its migrations take seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def make_world(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """A maker of worlds: `make_world(train={...}, gate={...}, counts={...})` changes what the defaults say."""

    def make(
        train: dict[str, object] | None = None,
        gate: dict[str, object] | None = None,
        counts: dict[Split, int] | None = None,
    ) -> World:
        sections = dict(SECTIONS)
        sections["train"] = {**SECTIONS["train"], **(train or {})}  # type: ignore[dict-item]
        sections["gate"] = {**SECTIONS["gate"], **(gate or {})}  # type: ignore[dict-item]
        folder = tmp_path / "usecases" / "made-up"
        folder.mkdir(parents=True)
        (folder / "usecase.yaml").write_text(yaml.safe_dump(sections))
        database = tmp_path / "mlflow" / "mlflow.db"
        database.parent.mkdir()
        shutil.copy(empty_database, database)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        monkeypatch.setenv("TERRALOOP_USECASES", str(tmp_path / "usecases"))
        usecase = UseCase.load("made-up")
        store = Store(str(tmp_path / "store"))
        sizes = counts or {"train": 12, "validation": 4, "holdout": 8, "test": 4}
        dataset = write_dataset(store, usecase, "d" * 64, sizes)
        return World(usecase, folder / "usecase.yaml", store, dataset, database)

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """The default world."""
    return make_world()


@dataclass(frozen=True)
class Pair:
    """Two registered versions: a poor index, bootstrapped as champion, and a better one that could replace it."""

    poor: Version
    better: Version


def register_threshold(world: World, registry: Registry, threshold: float, kind: str) -> Version:
    """NDWI above a threshold as a registered version; no training, a second instead of many."""
    index = replace(indices(world.usecase.data)[0], threshold=threshold)
    artifact = index_artifact(index, world.usecase, world.dataset, {"validation_iou": 0.5 - abs(threshold)})
    tags = {KIND_TAG: kind, DATASET_TAG: world.dataset.digest}
    with registry.run(f"NDWI > {threshold}", tags) as run:
        return registry.register(run, artifact.graph, artifact.description, tags)


@pytest.fixture
def make_pair() -> Callable[[World], Pair]:
    """A maker of a pair in a world."""

    def make(world: World) -> Pair:
        registry = Registry(world.usecase.name)
        poor = register_threshold(world, registry, 0.48, "spectral-index")
        bootstrap(registry, world.store, poor)
        return Pair(poor, register_threshold(world, registry, 0.1, "network"))

    return make


@pytest.fixture
def pair(world: World, make_pair: Callable[[World], Pair]) -> Pair:
    """A pair in the default world."""
    return make_pair(world)


@pytest.fixture
def server(tmp_path: Path, empty_database: Path, unused_port: int) -> Iterator[TrackingServer]:
    """An MLflow server that answers."""
    server = TrackingServer(tmp_path, unused_port, empty_database)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No telemetry, and settings of the surroundings do not reach the tests."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("TERRALOOP_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("TERRALOOP_TRACKING_JOURNAL", str(tmp_path / "kept"))
    for variable in ("TERRALOOP_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
