from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.usecase import UseCase
from eo_models.baseline import baseline
from eo_models.cli import main
from eo_models.training import train

from .conftest import BANDS, World, made_up_chip

ROOT = Path(__file__).parents[3]


def write(path: Path, pixels: NDArray[np.generic], *, east: float = 0, names: tuple[str, ...] = ()) -> Path:
    profile = {
        "driver": "GTiff", "dtype": str(pixels.dtype), "count": pixels.shape[0], "height": pixels.shape[1],
        "width": pixels.shape[2], "crs": "EPSG:32630", "transform": Affine(10, 0, 5e5 + east, 0, -10, 4e6),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
        for number, name in enumerate(names, start=1):
            dataset.set_band_description(number, name)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    image, label = made_up_chip(np.random.default_rng(3))
    values = np.where(label == 255, -1, label.astype(np.int16))
    names = BANDS
    return write(tmp_path / "image.tif", image, names=names), write(tmp_path / "label.tif", values[None])


@pytest.fixture
def usecase(world: World) -> UseCase:
    text = world.usecase_file.read_text().replace("  chip:", "  ignore_label_values: [-1]\n  chip:")
    world.usecase_file.write_text(text)
    return UseCase.load("made-up")


def test_figures_of_a_pair(usecase: UseCase, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    result = baseline(usecase, str(pair[0]), str(pair[1]))
    image, label = made_up_chip(np.random.default_rng(3))
    scored = label != 255
    green, nir, water = image[1][scored].astype(float), image[2][scored].astype(float), label[scored] == 1
    found = green > nir
    assert result["iou"]["NDWI>0"] == pytest.approx((found & water).sum() / (found | water).sum())
    assert set(result["iou"]) == {"NDWI>0", "MNDWI>0"}
    assert result["pixels"] == scored.sum()
    told = capsys.readouterr()
    assert f"{result['iou']['NDWI>0']:.3f}" in told.err
    assert told.out == ""


def test_the_champion_is_scored_as_well(usecase: UseCase, world: World, pair: tuple[Path, Path]) -> None:
    assert set(baseline(usecase, str(pair[0]), str(pair[1]), world.store)["iou"]) == {"NDWI>0", "MNDWI>0"}
    manifest = world.dataset.manifest.model_dump(mode="json") | {"usecase_data_digest": usecase.digest("data")}
    path = Path(world.store.raster_path(f"datasets/{world.dataset.digest}/manifest.json"))
    path.write_text(json.dumps(manifest))
    train(world.store, usecase, world.dataset.uri, progress=False)
    found = baseline(usecase, str(pair[0]), str(pair[1]), world.store)["iou"]
    assert set(found) == {"NDWI>0", "MNDWI>0", "champion made-up/1"}


def test_a_label_of_another_grid_is_refused(usecase: UseCase, pair: tuple[Path, Path], tmp_path: Path) -> None:
    moved = write(tmp_path / "moved.tif", np.zeros((1, 32, 32), dtype=np.int16), east=5)
    with pytest.raises(DataRefused, match="does not fit"):
        baseline(usecase, str(pair[0]), str(moved))
    smaller = write(tmp_path / "smaller.tif", np.zeros((1, 16, 32), dtype=np.int16))
    with pytest.raises(DataRefused, match="size 16 x 32"):
        baseline(usecase, str(pair[0]), str(smaller))


def test_dry_land_is_undefined_not_zero(usecase: UseCase, tmp_path: Path) -> None:
    image = np.stack([np.full((32, 32), value, dtype=np.int16) for value in (600, 900, 2600, 2200)])
    paths = write(tmp_path / "i.tif", image, names=BANDS), write(tmp_path / "l.tif", np.zeros((1, 32, 32), np.int16))
    assert baseline(usecase, str(paths[0]), str(paths[1]))["iou"] == {"NDWI>0": None, "MNDWI>0": None}


SPAIN = ("sen1floods11/S2Hand/Spain_7370579_S2Hand.tif", "sen1floods11/LabelHand/Spain_7370579_LabelHand.tif")


def terramesh(name: str) -> tuple[str, str]:
    return f"terramesh/S2L1C/{name}.tif", f"terramesh/WaterLabel/{name}.tif"


@pytest.mark.parametrize(
    ("pair", "ndwi", "mndwi"),
    [
        (SPAIN, 0.676, 0.612),
        (terramesh("433D_629L_3_1"), 0.352, 0.301),  # carries the offset of newer baselines
        (terramesh("637U_59R_1_3"), 0.0, 0.0),  # next to no water in the label, false alarms
        (terramesh("38D_378R_2_3"), None, None),  # no water, none found
    ],
)
def test_published_figures_on_real_data(
    pair: tuple[str, str],
    ndwi: float | None,
    mndwi: float | None,
    real_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TERRALOOP_USECASES", str(ROOT / "usecases"))
    result = tmp_path / "result.json"
    image, label = (str(real_data / name) for name in pair)
    command = ["baseline", "--usecase", "water", "--image", image, "--label", label]
    assert main([*command, "--result", str(result)]) == 0
    for name, expected in (("NDWI>0", ndwi), ("MNDWI>0", mndwi)):
        found = json.loads(result.read_text())["iou"][name]
        assert found == (None if expected is None else pytest.approx(expected, abs=0.005))
    assert ("undefined" in capfd.readouterr().err) == (ndwi is None)


@pytest.fixture
def real_data() -> Path:
    folder = Path(os.environ.get("TERRALOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set TERRALOOP_TEST_DATA")
    return folder
