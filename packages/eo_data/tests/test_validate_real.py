"""Verdicts on real scenes: mixed processing baselines, hand labels, undeclared nodata, another sensor's numbers."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

from eo_data.ingest import ingest
from eo_data.rasters import open_tiff
from eo_data.references import write_reference
from eo_data.scene import Scene
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_data.validate import Verdict, load_verdict, load_verdicts, validate

from .conftest import ROOT, write_tiff

L1C, OFFSET, OLD = "S2L1C", "433D_629L_3_1", ("38D_378R_2_3", "637U_59R_1_3")


def judge(store: Store, usecase: UseCase, source: Path) -> tuple[dict[str, Any], dict[str, Verdict]]:
    batch = ingest(store, usecase, str(source), progress=False)
    assert batch["scenes"]["refused"] == {}
    result = validate(store, usecase, batch=batch["batch"], progress=False)
    keys = load_verdicts(store, result["verdicts"]).verdicts
    return result, {scene_id: load_verdict(store, key) for scene_id, key in keys.items()}


def changed(**data: Any) -> UseCase:
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())
    return UseCase("water", {"data": sections["data"] | data})


def test_of_chips_of_mixed_baselines_that_with_the_offset_is_corrected(
    test_data: Path, store: Store, water: UseCase
) -> None:
    result, verdicts = judge(store, water, test_data / "terramesh")
    assert result["quarantined"] == {}
    assert {scene_id: v.features["radiometry_source"] for scene_id, v in verdicts.items()} == {
        OFFSET: "values", OLD[0]: "usecase", OLD[1]: "usecase",
    }  # fmt: skip
    assert result["warnings"].keys() == {OFFSET}
    for scene_id, verdict in verdicts.items():
        removed = 1000 if scene_id == OFFSET else 0
        with rasterio.open(test_data / "terramesh" / L1C / f"{scene_id}.tif") as dataset:
            raw = dataset.read([2, 3, 4, 8, 12, 13]).astype(np.float32)
        with Scene.load(store, verdict.scene).image(water.data) as image:
            pixels, valid = image.read_all()
        assert valid.all()
        np.testing.assert_array_equal(pixels, raw - removed)
        assert verdict.features["q50_B03"] == np.median(raw[1]) - removed
        # Green > near infrared, what NDWI > 0 is, is the same ground before and after; its index is not.
        np.testing.assert_array_equal(pixels[1] > pixels[3], raw[1] > raw[3])


def test_surface_reflectance_chips_have_no_cirrus_to_tell_the_offset_and_are_quarantined(
    test_data: Path, store: Store, tmp_path: Path
) -> None:
    bands = [band for band in changed().data.model_dump()["bands"] if band["name"] != "B10"]
    usecase = changed(
        bands=bands,
        reflectance={"scale": 0.0001, "nodata": 0},
        folders=[{"image": "S2L2A/{id}.tif", "label": "WaterLabel/{id}.tif"}],
    )
    for kind in ("S2L2A", "WaterLabel"):
        shutil.copytree(test_data / "terramesh" / kind, tmp_path / "source" / kind)
    result, _ = judge(store, usecase, tmp_path / "source")
    assert result["accepted"] == list(OLD)
    assert f"state raster:offset or the processing baseline in items/{OFFSET}.json" in result["quarantined"][OFFSET]
    (tmp_path / "source" / "items").mkdir()
    (tmp_path / "source" / "items" / f"{OFFSET}.json").write_text('{"properties": {"s2:processing_baseline": "04.00"}}')
    result, verdicts = judge(store, usecase, tmp_path / "source")
    assert (result["quarantined"], result["warnings"]) == ({}, {})
    assert verdicts[OFFSET].features["radiometry"] == "scale=0.0001 offset=-0.1 (stac-baseline)"


def test_a_hand_labelled_chip_is_accepted_as_it_is(test_data: Path, store: Store, water: UseCase) -> None:
    result, verdicts = judge(store, water, test_data / "sen1floods11")
    assert (result["accepted"], result["warnings"]) == (["Spain_7370579"], {})
    assert verdicts["Spain_7370579"].features["dark_band"] == 8
    assert verdicts["Spain_7370579"].features["label_ignored_fraction"] == pytest.approx(0.000378, abs=1e-6)


def test_fill_that_a_file_does_not_declare_is_refused_and_accepted_once_declared(
    test_data: Path, store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    shutil.copy(test_data / "scenes" / "sentinel-2-4band-alaska" / "s2_example.tif", source / "images" / "alaska.tif")
    result, _ = judge(store, changed(inputs=["B02", "B03", "B04", "B08"], reflectance={"nodata": 7}), source)
    assert "0 in every band of a pixel is a fill value" in result["quarantined"]["alaska"]
    usecase = changed(inputs=["B02", "B03", "B04", "B08"])
    result, verdicts = judge(store, usecase, source)
    assert result["accepted"] == ["alaska"]
    assert verdicts["alaska"].features["invalid_fraction"] == pytest.approx(0.09, abs=0.01)


def test_another_sensors_numbers_are_no_reflectance_until_their_scale_is_stated(
    test_data: Path, store: Store, water: UseCase, tmp_path: Path
) -> None:
    """Landsat Collection 2: 0.0000275 a number, -0.2 added; read as tenths of thousandths they are far too bright."""
    folder = next((test_data / "scenes" / "landsat-c2-l2").iterdir())
    layers = []
    for number in (2, 3, 4, 5, 6, 7):
        with rasterio.open(next(folder.glob(f"*_SR_B{number}.TIF"))) as dataset:
            layers.append(dataset.read(1))
            crs, transform = dataset.crs.to_string(), dataset.transform
    path = tmp_path / "source" / "images" / "landsat.tif"
    names = ("B02", "B03", "B04", "B08", "B11", "B12")
    write_tiff(path, np.stack(layers), names=names, nodata=0, crs=crs, transform=transform)
    result, _ = judge(store, water, tmp_path / "source")
    assert "q98 of B02 is no reflectance of this sensor" in result["quarantined"]["landsat"]
    (tmp_path / "source" / "items").mkdir()
    stated = '{"assets": {"image": {"raster:scale": 0.0000275, "raster:offset": -0.2}}}'
    (tmp_path / "source" / "items" / "landsat.json").write_text(stated)
    result, verdicts = judge(store, water, tmp_path / "source")
    assert result["accepted"] == ["landsat"]
    assert 0 < verdicts["landsat"].features["q50_B03"] < 10000


def test_real_scenes_of_the_training_sensor_are_alike_and_shifted_ones_are_reported(
    test_data: Path, store: Store, tmp_path: Path
) -> None:
    usecase = UseCase.load(str(ROOT / "usecases" / "water-hls"))
    lists = {
        name: [
            Path(line["image"]).stem
            for line in csv.DictReader((test_data / "hls-water" / f"{name}.csv").read_text().splitlines())
        ]
        for name in ("train", "test")
    }
    result, verdicts = judge(store, usecase, test_data / "hls-water")
    assert (result["quarantined"], result["skew"]) == ({}, None)
    assert len(result["accepted"]) == 182
    write_reference(store, usecase, "d" * 64, [verdicts[scene_id].features for scene_id in lists["train"]])
    batch = next(key for key in store.list("batches"))
    compared = validate(store, usecase, batch=batch, progress=False)
    assert compared["accepted"] == result["accepted"]
    assert sum(scene_id in compared["skew"] for scene_id in lists["test"]) <= 3
    assert sum(scene_id in compared["skew"] for scene_id in lists["train"]) <= 10
    shifted = tmp_path / "source" / "images"
    for scene_id in lists["test"][:8]:
        with open_tiff(str(test_data / "hls-water" / "images" / f"{scene_id}.tif"), scene_id) as dataset:
            pixels, names = dataset.read(), dataset.descriptions
        pixels[:7] += 1000
        write_tiff(shifted / f"{scene_id}.tif", pixels, crs=None, names=names)
    rows = "\n".join(f"images/{scene_id}.tif," for scene_id in lists["test"][:8])
    (tmp_path / "source" / "test.csv").write_text(f"image,label\n{rows}\n")
    result, _ = judge(store, usecase, tmp_path / "source")
    assert result["skew"].keys() == set(result["accepted"]) == set(lists["test"][:8])
