"""Every network of the table, and several as members, as an ONNX graph: equal to torch on real chips, and plain."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import eo_data
import eo_models
from eo_data.errors import TerraloopError
from eo_data.labels import read_label
from eo_data.rasters import open_image
from eo_data.usecase import IGNORE, UseCase
from eo_models.configuration import TrainSection
from eo_models.export import LOGITS, check_export, export_network, graph_with_logits
from eo_models.losses import segmentation_loss
from eo_models.members import Members
from eo_models.networks import NETWORKS, build_network
from eo_models.unet import Reflectance

ROOT = Path(__file__).parents[3]
SIDE = 128
NAMES = (*NETWORKS, "members")
Chips = NDArray[np.float32]


def section(name: str) -> TrainSection:
    """Small sizes."""
    values = {
        "network": name,
        "channels": 4,
        "tiles": {"tile": 96, "halo": 32, "blend": 16},
        "segformer": {"hidden_sizes": [8, 8, 16, 16], "heads": [1, 1, 2, 2], "decoder": 16},
    }
    return TrainSection.model_validate(values)


def build(name: str, mean: list[float], std: list[float]) -> nn.Module:
    """A network of the table, or two of them averaged; fresh weights of a fixed seed."""
    torch.manual_seed(0)
    reflectance = Reflectance(mean, std, [(1, 3)])
    names = ("pixels", "pixels") if name == "members" else (name,)
    networks = [build_network(reflectance, 2, section(one)) for one in names]
    return Members(networks) if name == "members" else networks[0]


@dataclass(frozen=True)
class Real:
    """Chips `[N, 6, 128, 128]` of both sources, and their labels `[N, 128, 128]`."""

    hls: Chips
    spain: Chips
    labels: NDArray[np.int64]


def crops(image: Path, label: Path, usecase: UseCase) -> Iterator[tuple[Chips, NDArray[np.int64]]]:
    bands = tuple(band.name for band in usecase.data.bands) if usecase.name == "water" else None
    with open_image(str(image), usecase.data, where=image.name, bands=bands) as raster:
        pixels, valid = raster.read_all()
    pixels = pixels[-6:]  # blue, green, red, nir, swir1, swir2 of both; HLS has coastal before them
    truth = np.where(valid, read_label(str(label), usecase.data, label.name), IGNORE).astype(np.int64)
    for top in range(0, truth.shape[0] - SIDE + 1, SIDE):
        for left in range(0, truth.shape[1] - SIDE + 1, SIDE):
            part = np.s_[top : top + SIDE, left : left + SIDE]
            yield np.where(valid, pixels, 0)[:, part[0], part[1]].astype(np.float32), truth[part]


@pytest.fixture(scope="module")
def real() -> Real:
    """Real chips of HLS and of Sentinel-2, or a skip that says where they were looked for."""
    data = Path(os.environ.get("TERRALOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"real data not found at {data}: set TERRALOOP_TEST_DATA")
    water, hls = (UseCase.load(str(ROOT / "usecases" / name)) for name in ("water", "water-hls"))
    folder, chip = data / "sen1floods11", "Spain_7370579"
    spain = list(crops(folder / "S2Hand" / f"{chip}_S2Hand.tif", folder / "LabelHand" / f"{chip}_LabelHand.tif", water))
    found: list[tuple[Chips, NDArray[np.int64]]] = []
    for image in sorted((data / "hls-water" / "images").iterdir())[:8]:
        found += crops(image, data / "hls-water" / "labels" / image.name, hls)
    assert len(spain) == 16
    assert len(found) >= 8
    labels = np.stack([label for _, label in (*found, *spain)])
    return Real(np.stack([chip for chip, _ in found]), np.stack([chip for chip, _ in spain]), labels)


@pytest.fixture(scope="module")
def learned(real: Real) -> dict[str, nn.Module]:
    """Every network after some steps on these chips: weights and statistics are those of real data."""
    chips = np.concatenate([real.hls, real.spain])
    mean = [float(value) for value in chips.mean(axis=(0, 2, 3))]
    std = [float(value) for value in chips.std(axis=(0, 2, 3))]
    result = {}
    for name in NAMES:
        network = build(name, mean, std).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
        for step in range(40):
            part = np.s_[step % 8 :: 8, ..., 32:96, 32:96]
            images, labels = np.ascontiguousarray(chips[part]), np.ascontiguousarray(real.labels[part])
            logits = network(torch.from_numpy(images))
            loss = segmentation_loss(logits, torch.from_numpy(labels), torch.tensor([0.5, 2.0]), 1.0)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        result[name] = network.eval()
    return result


@pytest.fixture(scope="module")
def graphs(learned: dict[str, nn.Module]) -> dict[str, bytes]:
    return {name: export_network(network, 6) for name, network in learned.items()}


@pytest.mark.parametrize("name", NAMES)
def test_graph_and_network_agree_on_real_chips(
    name: str, real: Real, learned: dict[str, nn.Module], graphs: dict[str, bytes]
) -> None:
    session = onnxruntime.InferenceSession(graphs[name], providers=["CPUExecutionProvider"])
    for chips in (real.hls, real.spain):
        assert check_export(learned[name], graphs[name], chips) < 1e-4
        with torch.inference_mode():
            logits = learned[name](torch.from_numpy(chips)).numpy()
        found = session.run(["probability"], {"reflectance": chips})[0]
        ranked = np.sort(logits, axis=1)
        sure = ranked[:, -1] - ranked[:, -2] > 1e-5  # the rest is decided by rounding
        assert sure.mean() > 0.999
        assert 0.001 < float(logits.argmax(axis=1).mean()) < 0.999, "with one class alone nothing is compared"
        np.testing.assert_array_equal(found.argmax(axis=1)[sure], logits.argmax(axis=1)[sure])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("number", "height", "width"), [(1, 16, 16), (1, 256, 256), (3, 40, 72), (5, 112, 32)])
def test_batch_height_and_width_are_dynamic(
    name: str, number: int, height: int, width: int, real: Real, learned: dict[str, nn.Module], graphs: dict[str, bytes]
) -> None:
    whole = np.concatenate([np.concatenate(real.spain[row : row + 4], axis=2) for row in (0, 4, 8, 12)], axis=1)
    chips = np.stack([whole[:, 50 * n : 50 * n + height, 70 * n : 70 * n + width] for n in range(number)])
    assert check_export(learned[name], graphs[name], chips) < 1e-4


def test_what_is_checked_are_the_logits(learned: dict[str, nn.Module], graphs: dict[str, bytes], real: Real) -> None:
    class Shifted(nn.Module):
        """Logits that are higher by one in both classes: the same probabilities."""

        def forward(self, reflectance: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = learned["U-Net"](reflectance) + 1
            return result

    with pytest.raises(TerraloopError, match="logits by 1"):
        check_export(Shifted(), graphs["U-Net"], real.spain[:2])


@pytest.mark.parametrize("name", NAMES)
def test_the_added_output_is_of_the_check_alone(name: str, graphs: dict[str, bytes]) -> None:
    plain = onnx.load_from_string(graphs[name])
    assert [output.name for output in plain.graph.output] == ["probability"]
    more = onnx.load_from_string(graph_with_logits(graphs[name]))
    assert [output.name for output in more.graph.output] == ["probability", LOGITS]
    assert list(more.graph.node)[:-1] == list(plain.graph.node)


MAKE = """
import sys
from pathlib import Path
import torch
import eo_models
from eo_models.export import export_network
sys.path.insert(0, str(Path(__file__).parent))
from networks_to_export import NAMES, build
assert Path(eo_models.__file__).is_relative_to(Path(__file__).parent), eo_models.__file__
for name in NAMES:
    Path(f"{name}.onnx").write_bytes(export_network(build(name, [800.0] * 6, [400.0] * 6), 6))
"""


def test_two_folders_export_the_same_bytes_without_a_path(tmp_path: Path) -> None:
    folders = [tmp_path / name / "working-folder" for name in ("here", "a-quite-different-place")]
    running = []
    for number, working in enumerate(folders):
        working.mkdir(parents=True)
        folder = working.parent
        for package in (eo_data, eo_models):
            source = Path(str(package.__file__)).parent
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "make.py").write_text(MAKE)
        shutil.copy(__file__, folder / "networks_to_export.py")
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": str(number + 1)}
        running.append(subprocess.Popen([sys.executable, str(folder / "make.py")], cwd=working, env=environment))
    assert [process.wait() for process in running] == [0, 0]
    written = [{path.stem: path.read_bytes() for path in working.iterdir()} for working in folders]
    assert sorted(written[0]) == sorted(NAMES)
    first, second = ({name: hashlib.sha256(data).hexdigest() for name, data in files.items()} for files in written)
    assert first == second
    traces = (str(tmp_path), str(ROOT), sys.prefix, "site-packages", "here", "working-folder", "eo_models", ".py")
    for data in written[0].values():
        for trace in traces:
            assert trace.encode() not in data
        text = without_weights(data)
        for trace in ("/", "\\", getpass.getuser(), ".onnx.data"):
            assert trace not in text


def without_weights(graph: bytes) -> str:
    """A graph as text, without the numbers and the lengths, in whose bytes anything may occur."""
    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    for node in model.graph.node:
        for attribute in node.attribute:
            attribute.t.ClearField("raw_data")
    return str(model)
