"""What is served: the U-Net of `water`, trained for seconds on a made-up scene and registered; and rasters for it.

How good it is changes no time, and what is compared is compared with itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from eo_data.digests import mask_digest
from eo_data.model.description import GoldenChip, ModelClass, ModelDescription, ModelInput, ModelOutput, Tiling
from eo_data.model.files import DESCRIPTION_TAG, GRAPH_TAG, ModelFiles
from eo_data.model.ledger import Ledger
from eo_data.model.session import OnnxModel, golden_valid
from eo_data.store import Store
from eo_data.usecase import UseCase

NAME: Final = "water"
BANDS: Final = 6
TILING: Final = Tiling(tile=320, halo=32, blend=0)


@dataclass(frozen=True)
class Registered:
    """A version that can be served.

    Attributes:
        files: It.
        graph: Path of its `model.onnx`.
        tracking: The registry.
        store: Whose ledger makes it champion.
        usecase: What it is for.
    """

    files: ModelFiles
    graph: Path
    tracking: str
    store: Store
    usecase: UseCase

    def session(self) -> OnnxModel:
        """The graph, loaded in this process with one thread."""
        return OnnxModel(self.files.graph, self.files.description, threads=1)


def make_files(usecase: UseCase, number: int = 1) -> ModelFiles:
    """A version's graph and description, with a golden chip that it passes; other numbers are other weights."""
    import torch

    from eo_models.configuration import train_section
    from eo_models.export import export_network
    from eo_models.inputs import band_pairs
    from eo_models.networks import build_network
    from eo_models.unet import Reflectance

    torch.manual_seed(number - 1)
    section = train_section(usecase)
    pairs = band_pairs(usecase.data, section.indices, "train.indices")
    means, deviations = [1500.0] * BANDS, [900.0] * BANDS
    network = build_network(Reflectance(means, deviations, pairs), len(usecase.data.classes), section)
    _train(network)
    graph = export_network(network, BANDS)
    pixels = np.random.default_rng(1).integers(1, 4000, (BANDS, 64, 64)).astype(np.int16)
    description = ModelDescription(
        **{"mlm:name": usecase.name, "mlm:architecture": "U-Net"},  # type: ignore[arg-type]
        kind="network",
        input=ModelInput(bands=tuple(band.name for band in usecase.data.input_bands)),
        output=ModelOutput(
            classes=tuple(ModelClass(value=i, name=c.name, color=c.color) for i, c in enumerate(usecase.data.classes))
        ),
        tiling=TILING,
        usecase=usecase.name,
        usecase_data_digest=usecase.digest("data"),
        dataset_digest="0" * 64,
        golden=GoldenChip.encode(pixels, "0" * 64),
    )
    chip = pixels.astype(np.float32)
    digest = mask_digest(OnnxModel(graph, description).mask(chip, golden_valid(chip)))
    golden = GoldenChip.encode(pixels, digest)
    description = description.model_copy(update={"golden": golden})
    return ModelFiles.of(usecase.name, number, "run", graph, description.to_bytes())


def _train(network: Any) -> None:
    """A few steps towards what lies low in the scene: masks of noise, or of one class, would be like no mask."""
    import torch

    images = torch.from_numpy(scene(1024, 1024).astype(np.float32)).unfold(1, 128, 128).unfold(2, 128, 128)
    images = images.permute(1, 2, 0, 3, 4).reshape(-1, BANDS, 128, 128)
    low = torch.from_numpy((field(1024, 1024) < -0.2).astype(np.int64))
    labels = low.unfold(0, 128, 128).unfold(1, 128, 128).reshape(-1, 128, 128)
    optimizer = torch.optim.Adam(network.parameters(), 0.006)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        chosen = torch.randint(len(images), (8,), generator=generator)
        loss = torch.nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval()


def register(folder: Path, usecase: UseCase) -> Registered:
    """Make the version champion of a registry on SQLite and a store in a folder."""
    from mlflow import MlflowClient

    tracking = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=tracking)
    client.create_experiment(NAME, artifact_location=(folder / "artifacts").as_uri())
    client.create_registered_model(usecase.name)
    files = add_version(tracking, folder, usecase, 1)
    store = Store(str(folder / "store"))
    Ledger(store, usecase.name).append(
        after=0,
        version=1,
        model_digest=files.digest,
        description_digest=files.description_digest,
        reason="bootstrap",
    )
    return Registered(files, folder / "version-1" / "model.onnx", tracking, store, usecase)


def add_version(tracking: str, folder: Path, usecase: UseCase, number: int) -> ModelFiles:
    """Register a version of other weights."""
    from mlflow import MlflowClient

    files, version = make_files(usecase, number), folder / f"version-{number}"
    version.mkdir()
    (version / "model.onnx").write_bytes(files.graph)
    (version / "model.json").write_bytes(files.text)
    client = MlflowClient(tracking_uri=tracking)
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None, "register() makes it"  # noqa: S101
    run = client.create_run(experiment.experiment_id).info
    client.log_artifacts(run.run_id, str(version), "model")
    tags = {GRAPH_TAG: files.digest, DESCRIPTION_TAG: files.description_digest}
    client.create_model_version(usecase.name, f"{run.artifact_uri}/model", run.run_id, tags=tags)
    return files


def field(height: int, width: int) -> NDArray[np.float32]:
    """Hills and valleys, about -1.4 to 1.4."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    hills: NDArray[np.float32] = np.sin(rows / 37) * np.cos(columns / 53) + 0.4 * np.sin((rows + columns) / 11)
    return hills


def scene(height: int, width: int) -> NDArray[np.uint16]:
    """Smooth fields with noise, `[bands, H, W]`: what deflate makes of it is what it makes of a scene."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 40, (BANDS, height, width)).astype(np.float32)
    gains = np.linspace(500, 1100, BANDS, dtype=np.float32)[:, None, None]
    pixels: NDArray[np.uint16] = np.clip(1500 + gains * field(height, width) + noise, 1, 9000).astype(np.uint16)
    return pixels


def write_scene(path: Path, height: int, width: int, names: tuple[str, ...], block: int = 2048) -> None:
    """A tiled, deflated GeoTIFF of described bands, block by block."""
    pixels = scene(min(height, block), min(width, block))
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": BANDS, "height": height, "width": width, "dtype": "uint16", "crs": "EPSG:32630",
        "transform": Affine(10, 0, 500_000, 0, -10, 4_200_000), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "compress": "deflate", "predictor": 2, "bigtiff": "if_safer", "num_threads": 2,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        for number, name in enumerate(names, start=1):
            target.set_band_description(number, name)
        for top in range(0, height, block):
            for left in range(0, width, block):
                rows, columns = min(block, height - top), min(block, width - left)
                window = rasterio.windows.Window(left, top, columns, rows)
                target.write(pixels[:, :rows, :columns], window=window)
