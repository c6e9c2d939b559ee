"""A whole scene, file to file: `eo-serving predict` beside a loop over chips, TerraTorch and geoai.

All run the same graph in ONNX Runtime with one thread over tiles of the same size and step.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from benchmarks import torchvision_stub
from benchmarks.protocol import Check, Variant
from eo_data.model.session import OnnxModel
from eo_data.store import local_path
from eo_serving.prediction import predict

if TYPE_CHECKING:
    from benchmarks.serving.version import Registered
    from eo_data.tiling import Pixels

OURS: Final = "eo-serving predict"
NAIVE: Final = "a loop over chips, full accumulators"
TERRATORCH: Final = "TerraTorch tiled_inference"
GEOAI: Final = "geoai predict_geotiff"
FORWARD: Final = "the model alone, same tiles"
EQUAL: Final = "{} gives the same mask"
AGREEMENT: Final = 0.995
"""Share of equal pixels away from the edge: who blends or pads otherwise, differs along tile borders."""


class _Graph(torch.nn.Module):
    """The graph as a torch module, for those who take nothing else."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__()
        self._model = model

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._model(tiles.numpy()))


class WholeScene:
    """The scene, and each way to its mask.

    Args:
        registered: The version.
        scene: A GeoTIFF whose bands are the model's.
        folder: Masks go there.
        peers: Where the peers' wheels lie.
    """

    def __init__(self, registered: Registered, scene: Path, folder: Path, peers: Path) -> None:
        self._registered = registered
        self._scene = scene
        self._folder = folder
        self._model = registered.session()
        self._plan = registered.files.description.tiling.plan()
        with rasterio.open(scene) as source:
            self._shape: tuple[int, int] = (source.height, source.width)
        self._tiled_inference = load_terratorch(peers).tiled_inference
        self._predict_geotiff = load_geoai(peers).predict_geotiff
        self._runs: dict[str, Callable[[Path], None]] = {
            OURS: self._ours,
            NAIVE: self._naive,
            TERRATORCH: self._terratorch,
            GEOAI: self._geoai,
        }

    @property
    def pixels(self) -> int:
        """Pixels of the scene."""
        return int(self._shape[0] * self._shape[1])

    def variants(self) -> list[Variant]:
        """What to measure; work is counted in pixels."""

        def once(run: Callable[[Path], None]) -> Callable[[], int]:
            def whole() -> int:
                run(self._folder / "timed.tif")
                return self.pixels

            return whole

        timed = [Variant(name, once(run), "ours" if name == OURS else "peer") for name, run in self._runs.items()]
        return [*timed, Variant(FORWARD, self._forward, "limit")]

    def checks(self) -> dict[str, Check]:
        """Each way's mask against ours, a tile away from the edge."""
        masks = {}
        for name, run in self._runs.items():
            path = self._folder / "checked.tif"
            run(path)
            with rasterio.open(path) as answer:
                masks[name] = answer.read(1)
        edge = self._plan.tile
        inner = np.s_[edge:-edge, edge:-edge]
        found = {}
        for name, mask in masks.items():
            if name != OURS:
                share = float(np.mean(mask[inner] == masks[OURS][inner]))
                classes = np.bincount(masks[OURS][inner].ravel())[:2].min() / masks[OURS][inner].size
                said = f"{share:.4%} of the inner pixels are equal; the rarer class has {classes:.1%}"
                found[EQUAL.format(name)] = Check(bool(share >= AGREEMENT and classes > 0.01), said)
        return found

    def model_share(self) -> float:
        """Share of the CPU time of `eo-serving predict` that the model takes, at its place between the other work."""
        spent = 0.0
        plain = OnnxModel.__call__

        def noted(model: OnnxModel, tiles: Pixels) -> Pixels:
            nonlocal spent
            began = time.process_time()
            try:
                return plain(model, tiles)
            finally:
                spent += time.process_time() - began

        with mock.patch.object(OnnxModel, "__call__", noted):
            began = time.process_time()
            self._ours(self._folder / "share.tif")
            return spent / (time.process_time() - began)

    def _ours(self, path: Path) -> None:
        out = self._folder / "ours"
        shutil.rmtree(out, ignore_errors=True)
        made = predict(self._registered.usecase, self._registered.store, str(self._scene), str(out), "models:/water/1")
        shutil.move(local_path(made["mask"]), path)

    def _naive(self, path: Path) -> None:
        plan, (height, width) = self._plan, self._shape
        total = np.zeros((2, height, width), np.float32)
        with rasterio.open(self._scene) as source:
            profile = source.profile
            for top in plan.starts(height):
                for left in plan.starts(width):
                    tile = self._padded(source, top - plan.halo, left - plan.halo)
                    core = self._model(tile[None])[0][:, plan.halo : -plan.halo, plan.halo : -plan.halo]
                    rows, columns = min(plan.core, height - top), min(plan.core, width - left)
                    total[:, top : top + rows, left : left + columns] += core[:, :rows, :columns]
        self._write(path, profile, total.argmax(axis=0).astype(np.uint8))

    def _padded(self, source: Any, top: int, left: int) -> NDArray[np.float32]:
        """A tile, mirrored beyond the edges of the scene."""
        size, (height, width) = self._plan.tile, self._shape
        first, last = max(top, 0), min(top + size, height)
        west, east = max(left, 0), min(left + size, width)
        values = source.read(window=Window(west, first, east - west, last - first)).astype(np.float32)
        beyond = ((0, 0), (first - top, top + size - last), (west - left, left + size - east))
        return np.pad(values, beyond, mode="symmetric")

    def _terratorch(self, path: Path) -> None:
        with rasterio.open(self._scene) as source:
            profile, image = source.profile, torch.from_numpy(source.read().astype(np.float32))
        plan = self._plan
        with torch.inference_mode():
            result = self._tiled_inference(
                _Graph(self._model), image[None], crop=plan.tile, stride=plan.step, delta=plan.halo, batch_size=2
            )
        self._write(path, profile, result[0].argmax(dim=0).numpy().astype(np.uint8))

    def _geoai(self, path: Path) -> None:
        self._predict_geotiff(
            _Graph(self._model), str(self._scene), str(path), tile_size=self._plan.tile, overlap=2 * self._plan.halo,
            batch_size=2, num_classes=2, output_dtype="uint8", output_nodata=255, device="cpu", compress="deflate",
            preprocess_fn=lambda tile: tile, verbose=False,
            postprocess_fn=lambda probability: probability.argmax(axis=0)[None].astype(np.uint8),
        )  # fmt: skip

    def _forward(self) -> int:
        plan, size = self._plan, self._plan.tile
        count = math.prod(len(plan.starts(side)) for side in self._shape)
        with rasterio.open(self._scene) as source:
            tiles = source.read(window=Window(0, 0, size, size)).astype(np.float32)[None].repeat(2, axis=0)
        for _ in range(-(-count // 2)):
            self._model(tiles)
        return self.pixels

    @staticmethod
    def _write(path: Path, profile: dict[str, Any], mask: NDArray[np.uint8]) -> None:
        changed = {**profile, "count": 1, "dtype": "uint8", "nodata": 255, "predictor": 1}
        with rasterio.open(path, "w", **changed) as target:
            target.write(mask, 1)


def load_terratorch(peers: Path) -> Any:
    """TerraTorch's module of tiled inference, without its models, which it does not need."""
    torchvision_stub.install()
    for name, folder in (("terratorch", ""), ("terratorch.models", "models"), ("terratorch.tasks", "tasks")):
        package = ModuleType(name)
        package.__path__ = [str(peers / "terratorch" / folder)]
        sys.modules[name] = package
    registry = ModuleType("terratorch.registry")
    registry.BACKBONE_REGISTRY = None  # type: ignore[attr-defined]
    sys.modules["terratorch.registry"] = registry
    return importlib.import_module("terratorch.tasks.tiled_inference")


def load_geoai(peers: Path) -> Any:
    """The geoai package's module of tiled inference, without the rest, which it does not need."""
    utilities = ModuleType("geoai.utils")
    utilities.get_device = None  # type: ignore[attr-defined]
    package = ModuleType("geoai")
    package.__path__ = [str(peers / "geoai")]
    sys.modules |= {"geoai": package, "geoai.utils": utilities}
    return importlib.import_module("geoai.inference")
