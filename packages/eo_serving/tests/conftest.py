"""A tiny model as the product registers it, rasters as bytes, and what is in the answers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from eo_data.digests import mask_digest
from eo_data.model.description import GoldenChip, ModelClass, ModelDescription, ModelInput, ModelOutput, Tiling
from eo_data.model.files import DESCRIPTION_TAG, GRAPH_TAG, ModelFiles
from eo_data.model.ledger import Ledger
from eo_data.model.session import OnnxModel, golden_valid
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_serving.service import Service, open_service

from .scene_server import SceneServer

ROOT = Path(__file__).parents[3]
S2_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
UTM = Affine(10, 0, 500_000, 0, -10, 4_200_000)

MakeModel = Callable[..., ModelFiles]
MakeTiff = Callable[..., bytes]


@dataclass(frozen=True)
class Raster:
    """What is in a GeoTIFF: `pixels` is `[bands, H, W]`."""

    pixels: NDArray[Any]
    crs: Any
    transform: Affine
    nodata: float | None
    tags: dict[str, str]
    colors: dict[int, tuple[int, ...]]
    descriptions: tuple[str | None, ...]
    overviews: list[int]
    layout: str | None

    @property
    def grid(self) -> tuple[Any, Affine, tuple[int, ...]]:
        """CRS, transform and size."""
        return self.crs, self.transform, self.pixels.shape[1:]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--abuse-table", metavar="FILE", help="write what was sent to the endpoint, and what it answered")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of abuse: only of what passed, after the same processes gave the reference answer once more."""
    target = config.getoption("--abuse-table")
    ended = terminalreporter.getreports("")  # what passed when it was taken down
    rows = [value for report in ended for name, value in report.user_properties if name == "abuse"]
    unique = list(dict.fromkeys(map(tuple, rows)))
    if not target or not unique:
        return
    lines = [
        "# What no client should send",
        "",
        f"`nox -s abuse` sends these {len(unique)} to a running endpoint. The proof, after each: front and MLServer",
        "are the processes that they were, and the reference chip gets the mask that it got before, byte by byte.",
        "Every refusal over HTTP is `application/problem+json` that says what, where and what to do.",
        "",
        "| sent | answer |",
        "|---|---|",
        *(f"| {what.replace('|', '/')} | {answer} |" for what, answer in unique),
    ]
    Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")
    terminalreporter.write_line("\n".join(lines[7:]))
    terminalreporter.write_line(f"{len(unique)} cases; written: {target}")


def pytest_configure(config: pytest.Config) -> None:
    # mlflow 3.17 asks SQLAlchemy 2.1 for what that release deprecates.
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="session", autouse=True)
def _usecases() -> None:
    os.environ["TERRALOOP_USECASES"] = str(ROOT / "usecases")


@pytest.fixture(scope="session")
def water() -> UseCase:
    return UseCase.load(str(ROOT / "usecases" / "water" / "usecase.yaml"))


@pytest.fixture(scope="session")
def water_hls() -> UseCase:
    return UseCase.load(str(ROOT / "usecases" / "water-hls" / "usecase.yaml"))


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    return _make_model


@pytest.fixture(scope="session")
def service(water: UseCase) -> Service:
    return open_service(_make_model(water), water)


@dataclass(frozen=True)
class Registry:
    """A real MLflow registry on SQLite, and a store whose ledger names its champion.

    Versions 1 and 2 of `water` are champions one after the other; 3 is a candidate; 4 fails its golden chip;
    the files of 5 are not those that its tags name.
    """

    tracking: str
    store: Store
    versions: dict[int, ModelFiles]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, water: UseCase) -> Registry:
    from mlflow import MlflowClient

    root = tmp_path_factory.mktemp("registry")
    tracking = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(tracking_uri=tracking)
    experiment = client.create_experiment("water", artifact_location=(root / "artifacts").as_uri())
    client.create_registered_model("water")
    made = {
        number: _make_model(water, number, threshold=threshold, golden="f" * 64 if number == 4 else None)
        for number, threshold in ((1, 0.0), (2, 0.3), (3, -0.3), (4, 0.1), (5, 0.2))
    }
    kept = {}
    for number, files in made.items():
        run = client.create_run(experiment).info
        folder = root / f"v{number}"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(files.graph)
        (folder / "model.json").write_bytes(files.text)
        client.log_artifacts(run.run_id, str(folder), "model")
        digest = "0" * 64 if number == 5 else files.digest
        tags = {GRAPH_TAG: digest, DESCRIPTION_TAG: files.description_digest}
        client.create_model_version("water", f"{run.artifact_uri}/model", run.run_id, tags=tags)
        kept[number] = replace(files, run=run.run_id)
    store = Store(str(root / "store"))
    for after, number in enumerate((1, 2)):
        Ledger(store, "water").append(
            after=after,
            version=number,
            model_digest=kept[number].digest,
            description_digest=kept[number].description_digest,
            reason="bootstrap" if number == 1 else "gate",
        )
    return Registry(tracking, store, kept)


@pytest.fixture(scope="module")
def scene_server() -> Iterator[SceneServer]:
    """A web server without any file yet."""
    server = SceneServer()
    with server.running():
        yield server


@pytest.fixture(scope="session")
def tiff() -> MakeTiff:
    return _tiff


@pytest.fixture(scope="session")
def decode() -> Callable[[bytes], Raster]:
    return _decode


@pytest.fixture
def test_data() -> Path:
    """The real scenes, or a skip that says where they were looked for."""
    folder = Path(os.environ.get("TERRALOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set TERRALOOP_TEST_DATA")
    return folder


def _make_model(usecase: UseCase, version: int = 1, threshold: float = 0.0, golden: str | None = None) -> ModelFiles:
    """A registered spectral index: water where (green - nir) / (green + nir) is above the threshold."""
    bands = tuple(band.name for band in usecase.data.input_bands)
    names = [{band.name, band.common_name} for band in usecase.data.input_bands]
    graph = _graph(next(i for i, n in enumerate(names) if "green" in n), _nir(names), threshold)
    pixels = np.random.default_rng(1).integers(1, 4000, (len(bands), 48, 40)).astype(np.int16)
    pixels[:, :4] = 0
    description = ModelDescription(
        **{"mlm:name": usecase.name, "mlm:architecture": "NDWI"},  # type: ignore[arg-type]
        kind="spectral-index",
        input=ModelInput(bands=bands),
        output=ModelOutput(
            classes=tuple(ModelClass(value=i, name=c.name, color=c.color) for i, c in enumerate(usecase.data.classes))
        ),
        tiling=Tiling(tile=64, halo=4, blend=8),
        usecase=usecase.name,
        usecase_data_digest=usecase.digest("data"),
        dataset_digest="0" * 64,
        golden=GoldenChip.encode(pixels, golden or "0" * 64),
    )
    if golden is None:
        chip = pixels.astype(np.float32)
        digest = mask_digest(OnnxModel(graph, description).mask(chip, golden_valid(chip)))
        description = description.model_copy(update={"golden": GoldenChip.encode(pixels, digest)})
    return ModelFiles.of(usecase.name, version, f"run{version}", graph, description.to_bytes())


def _nir(names: list[set[str | None]]) -> int:
    return next(i for i, n in enumerate(names) if n & {"nir"})


def _graph(green: int, nir: int, threshold: float) -> bytes:
    """An ONNX graph as the index export makes them: probabilities `[N, 2, H, W]`."""
    constants = {"green": [green], "nir": [nir], "one": 1.0, "steep": 50.0, "threshold": threshold}
    nodes = [
        helper.make_node("Gather", ["reflectance", "green"], ["g"], axis=1),
        helper.make_node("Gather", ["reflectance", "nir"], ["n"], axis=1),
        helper.make_node("Sub", ["g", "n"], ["difference"]),
        helper.make_node("Add", ["g", "n"], ["sum"]),
        helper.make_node("Max", ["sum", "one"], ["divisor"]),
        helper.make_node("Div", ["difference", "divisor"], ["index"]),
        helper.make_node("Sub", ["index", "threshold"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["scaled"]),
        helper.make_node("Sigmoid", ["scaled"], ["water"]),
        helper.make_node("Sub", ["one", "water"], ["land"]),
        helper.make_node("Concat", ["land", "water"], ["probability"], axis=1),
    ]
    initializers = [
        numpy_helper.from_array(np.array(value, np.int64 if isinstance(value, list) else np.float32), name)
        for name, value in constants.items()
    ]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name, channels in (("reflectance", "bands"), ("probability", 2))
    ]
    graph = helper.make_graph(nodes, "index", tensors[:1], tensors[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _tiff(
    pixels: NDArray[Any],
    *,
    crs: str | None = "EPSG:32630",
    transform: Affine | None = UTM,
    names: tuple[str | None, ...] = (),
    nodata: float | None = None,
    scale: tuple[float, float] | None = None,
    tags: dict[str, str] | None = None,
    **creation: Any,
) -> bytes:
    """Pixels `[bands, H, W]` as the bytes of a GeoTIFF."""
    bands, height, width = pixels.shape
    placed = {"crs": crs, "transform": transform}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", count=bands, height=height, width=width, dtype=pixels.dtype, nodata=nodata,
            **{key: value for key, value in placed.items() if value is not None}, **creation,
        ) as dataset:  # fmt: skip
            dataset.write(pixels)
            dataset.update_tags(**(tags or {}))
            for number, name in enumerate(names, start=1):
                if name is not None:
                    dataset.set_band_description(number, name)
            if scale is not None:
                dataset.scales = [scale[0]] * bands
                dataset.offsets = [scale[1]] * bands
        return bytes(memory.read())


def _decode(body: bytes) -> Raster:
    with warnings.catch_warnings(), rasterio.Env(), MemoryFile(body) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="GTiff") as dataset:
            palette = dataset.colorinterp[0].name == "palette"
            return Raster(
                pixels=dataset.read(),
                crs=dataset.crs,
                transform=dataset.transform,
                nodata=dataset.nodata,
                tags=dataset.tags(),
                colors=dataset.colormap(1) if palette else {},
                descriptions=dataset.descriptions,
                overviews=dataset.overviews(1),
                layout=dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"),
            )
