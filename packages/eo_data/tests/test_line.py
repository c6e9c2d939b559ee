"""Ingest, validate and chip: real files, the store, and the commands as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import rasterio.warp

from eo_data.chips import chip
from eo_data.dataset import Dataset
from eo_data.ingest import ingest
from eo_data.scene import Scene, list_scenes
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_data.validate import load_verdict, validate

from .conftest import S2_BANDS, water_scene, write_tiff

MakeFolder = Callable[[int], Path]


def eo_data(*arguments: str, usecase: str = "water", cwd: Path | None = None) -> tuple[int, dict[str, Any], str]:
    """Run the command; exit code, result (the last line of stdout) and stderr."""
    step, *rest = arguments
    run = subprocess.run(
        [sys.executable, "-m", "eo_data", step, "--usecase", usecase, *rest],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip
    lines = run.stdout.splitlines()
    return run.returncode, json.loads(lines[-1]) if lines else {}, run.stderr


def run_line(
    store: Path, source: Path, usecase: str = "water"
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Ingest, validate, chip in this process (Great Expectations takes seconds to import); their results."""
    place, case = Store(str(store)), UseCase.load(usecase)
    ingested = ingest(place, case, str(source), progress=False)
    validated = validate(place, case, batch=ingested["batch"], progress=False)
    return ingested, validated, chip(place, case, validated["verdicts"], progress=False)


def test_the_line_gives_a_dataset_whose_chips_are_the_scenes_pixels(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(30)
    ingested, validated, chipped = run_line(tmp_path / "store", folder)
    assert len(ingested["scenes"]["added"]) == 30
    assert len(validated["accepted"]) == 30
    assert validated["quarantined"] == {}
    assert min(chipped["chips"].values()) > 0
    store = Store(str(tmp_path / "store"))
    dataset = Dataset(store, chipped["dataset"])
    for record in dataset.chips():
        image, label = dataset.read(record)
        with rasterio.open(folder / "images" / f"{record.scene}.tif") as source:
            expected = source.read([2, 3, 4, 8, 12, 13])
        window = np.s_[record.top : record.top + 128, record.left : record.left + 128]
        assert np.array_equal(image, expected[(slice(None), *window)])
        with rasterio.open(folder / "labels" / f"{record.scene}.tif") as source:
            assert np.array_equal(label, source.read(1)[window])
    train = np.concatenate([dataset.read(c)[0].reshape(6, -1) for c in dataset.chips("train")], axis=1)
    assert np.allclose(dataset.statistics.mean, train.mean(axis=1), atol=1e-3)
    assert np.allclose(dataset.statistics.std, train.std(axis=1), atol=1e-2)
    docs = store.get(store.key(validated["docs"])).decode()
    assert "water" in docs
    pages = [store.get(key).decode() for key in store.list(store.key(validated["docs"]).rsplit("/", 1)[0])
             if "/validations/" in key]  # fmt: skip
    assert any("invalid_fraction" in page and "q98_B12" in page for page in pages)


def test_the_same_inputs_give_the_same_uris_and_do_nothing_twice(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(30)
    first = run_line(tmp_path / "store", folder)

    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*") if path.is_file()}

    before = written()
    second = run_line(tmp_path / "store", folder)
    (report,) = written().keys() - before.keys()
    assert report.as_uri() == second[1]["skew_report"]
    after = written()
    assert {path: after[path] for path in before} == before
    assert run_line(tmp_path / "store", folder) == second
    assert written() == after
    assert second[0]["batch"] == first[0]["batch"]
    assert second[0]["scenes"]["added"] == []
    assert second[0]["scenes"]["present"] == first[0]["scenes"]["added"]
    # The first dataset has become the reference that scenes are compared with; its own scenes are like it.
    assert (first[1]["skew"], second[1]["skew"]) == (None, {})
    assert {**second[1], "skew": None, "skew_report": None} == first[1]
    reference = Store(str(tmp_path / "store")).get_json(f"references/water/{first[2]['digest']}.json")
    assert 8 <= reference["groups"]["all"]["n"] <= first[2]["chips"]["train"]
    assert second[2] == {**first[2], "existing": True}


def test_the_digest_is_equal_in_another_store_and_changes_with_a_pixel(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(30)
    first = run_line(tmp_path / "a", folder)[2]["digest"]
    assert run_line(tmp_path / "b", folder)[2]["digest"] == first
    with rasterio.open(folder / "images" / "s03.tif", "r+") as dataset:
        band = dataset.read(2)
        band[0, 0] += 1
        dataset.write(band, 2)
    assert run_line(tmp_path / "c", folder)[2]["digest"] != first


def test_items_are_valid_stac_and_scenes_open_lazily(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(1)
    eo_data("ingest", "--store", str(tmp_path / "store"), "--source", str(folder))
    (scene,) = list_scenes(Store(str(tmp_path / "store")))
    item = scene.stac()
    assert isinstance(item, pystac.Item)
    assert item.properties["proj:code"] == "EPSG:32630"
    assert item.geometry is not None
    with rasterio.open(folder / "images" / "s00.tif") as source:
        west = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)[0]
        expected = source.read(3)
    assert item.bbox is not None
    assert abs(item.bbox[0] - west) < 1e-4
    opened = scene.open()
    assert set(opened.data_vars) == set(S2_BANDS)
    assert opened["B03"].chunks is not None  # lazy: backed by dask
    assert np.array_equal(opened["B03"].values, expected)
    assert opened.rio.crs.to_epsg() == 32630
    assert Scene.find(Store(str(tmp_path / "store")), "s00") == scene


def test_bad_scenes_are_refused_by_name_and_the_rest_goes_on(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(30)
    images, labels = folder / "images", folder / "labels"
    whole = (images / "s00.tif").read_bytes()
    (images / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    (images / "page.tif").write_text("<html><body>404 not found</body></html>")
    pixels, _ = water_scene(99)
    write = partial(write_tiff, origin=(800_000.0, 5_000_000.0))
    write(images / "twobands.tif", pixels[:2], names=("B02", "B03"))
    write(images / "biglabel.tif", pixels, names=S2_BANDS)
    write(labels / "biglabel.tif", np.zeros((1, 200, 128), np.uint8))
    write(images / "nodata.tif", np.zeros_like(pixels), names=S2_BANDS, nodata=0)
    write(images / "nan.tif", np.full(pixels.shape, np.nan, np.float32), names=S2_BANDS)
    write(images / "nowhere.tif", pixels, names=S2_BANDS, crs=None)
    write(images / "oddlabel.tif", pixels, names=S2_BANDS)
    write(labels / "oddlabel.tif", np.full((1, 128, 128), 7, np.uint8))
    ingested, validated, chipped = run_line(tmp_path / "store", folder)
    refused, quarantined = ingested["scenes"]["refused"], validated["quarantined"]
    assert set(refused) == {"truncated", "page", "biglabel", "nowhere"}
    assert "truncated or damaged" in refused["truncated"]
    assert "no GeoTIFF" in refused["page"]
    assert "200 x 128" in refused["biglabel"]
    assert ingested["labels"]["refused"] == {}  # said once, with its scene
    assert "no CRS" in refused["nowhere"]
    assert set(quarantined) == {"twobands", "nodata", "nan", "oddlabel"}
    assert "B04" in quarantined["twobands"]
    assert "too few pixels with data" in quarantined["nodata"]
    assert "too few pixels with data" in quarantined["nan"]
    assert "float32" in quarantined["nan"]
    assert "7" in quarantined["oddlabel"]
    assert len(validated["accepted"]) == 30
    store = Store(str(tmp_path / "store"))
    manifest = Dataset(store, chipped["dataset"]).manifest
    assert len(manifest.scenes) == 30
    assert sum(chipped["chips"].values()) == 30
    assert manifest.dropped == {}
    summary = store.get_json(store.key(validated["verdicts"]))
    verdict = load_verdict(store, summary["verdicts"]["nodata"])
    assert not verdict.accepted
    fraction = next(e for e in verdict.expectations if e["column"] == "invalid_fraction")
    assert fraction["observed"] == 1.0
    assert fraction["success"] is False


def test_a_source_of_bad_scenes_alone_ends_with_3_and_leaves_no_batch(tmp_path: Path) -> None:
    (tmp_path / "bad" / "images").mkdir(parents=True)
    (tmp_path / "bad" / "images" / "page.tif").write_text("<html>")
    code, _, log = eo_data("ingest", "--store", str(tmp_path / "store"), "--source", str(tmp_path / "bad"))
    assert code == 3
    assert "page" in log
    assert "Traceback" not in log
    assert not (tmp_path / "store" / "batches").exists()


def test_an_empty_split_ends_with_3_and_names_it(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(1)
    _, ingested, _ = eo_data("ingest", "--store", str(tmp_path / "store"), "--source", str(folder))
    _, validated, _ = eo_data("validate", "--store", str(tmp_path / "store"), "--batch", ingested["batch"])
    code, _, log = eo_data("chip", "--store", str(tmp_path / "store"), "--verdicts", validated["verdicts"])
    assert code == 3
    assert "the split '" in log
    assert not list((tmp_path / "store").rglob("manifest.json"))


def with_data(usecase: UseCase, **changes: Any) -> UseCase:
    """A use case with other values in its data section."""
    data = usecase.data.model_dump(mode="json", exclude_defaults=True) | changes
    return UseCase(usecase.name, {"data": data})


def test_verdicts_are_renewed_when_the_classes_change(make_folder: MakeFolder, store: Store, water: UseCase) -> None:
    folder = make_folder(1)
    pixels, _ = water_scene(5)
    write_tiff(folder / "images" / "seven.tif", pixels, names=S2_BANDS, nodata=0)
    write_tiff(folder / "labels" / "seven.tif", np.full((1, 128, 128), 7, np.uint8))
    batch = ingest(store, water, str(folder), progress=False)["batch"]
    before = validate(store, water, batch=batch, progress=False)
    assert set(before["quarantined"]) == {"seven"}
    classes = water.data.model_dump(mode="json")["classes"]
    classes[1]["label_values"] = [1, 7]
    after = validate(store, with_data(water, classes=classes), batch=batch, progress=False)
    assert after["verdicts"] != before["verdicts"]
    assert after["quarantined"] == {}


def test_the_digest_follows_which_band_is_which(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(30)
    first = run_line(tmp_path / "a", folder)[2]["digest"]
    for path in (folder / "images").iterdir():
        with rasterio.open(path, "r+") as dataset:  # the same pixels, B02 and B12 called by each other's names
            dataset.set_band_description(2, "B12")
            dataset.set_band_description(13, "B02")
    _, _, second = run_line(tmp_path / "b", folder)
    assert second["digest"] != first
    dataset = Dataset(Store(str(tmp_path / "b")), second["dataset"])
    record = dataset.chips()[0]
    with rasterio.open(folder / "images" / f"{record.scene}.tif") as source:
        assert np.array_equal(dataset.read(record)[0][0], source.read(13))


def test_a_scene_reissued_on_another_grid_has_no_old_label(
    make_folder: MakeFolder, store: Store, water: UseCase
) -> None:
    folder = make_folder(1)
    ingest(store, water, str(folder), progress=False)
    pixels, _ = water_scene(7, size=100)
    write_tiff(folder / "images" / "s00.tif", pixels, names=S2_BANDS, nodata=0, origin=(400_000.0, 5_000_000.0))
    (folder / "labels" / "s00.tif").unlink()
    ingest(store, water, str(folder), progress=False)
    validated = validate(store, water, progress=False)
    (key,) = store.get_json(store.key(validated["verdicts"]))["verdicts"].values()
    verdict = load_verdict(store, key)
    assert verdict.features["height"] == 100
    assert verdict.label is None


def test_an_older_items_raster_bands_decide_the_radiometry(
    make_folder: MakeFolder, tmp_path: Path, water: UseCase
) -> None:
    folder = make_folder(1)
    (folder / "items").mkdir()
    bands = [{"scale": 0.0001, "offset": -0.1}] * 13
    item = {"properties": {"datetime": "2025-06-01T10:00:00Z"}, "assets": {"image": {"raster:bands": bands}}}
    (folder / "items" / "s00.json").write_text(json.dumps(item))
    store = Store(str(tmp_path / "store"))
    ingest(store, water, str(folder), progress=False)
    with Scene.find(store, "s00").image(water.data) as image:
        assert (image.radiometry.scale, image.radiometry.offset, image.radiometry.source) == (0.0001, -0.1, "stac")
        pixels, _ = image.read_all()
    with rasterio.open(folder / "images" / "s00.tif") as source:
        assert np.array_equal(pixels[0], source.read(2).astype(np.float32) - 1000)


def test_lists_decide_the_split_of_scenes_without_crs(tmp_path: Path) -> None:
    root = tmp_path / "chips"
    names = {"train": 20, "val": 3, "test": 4}
    bands = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2", "fmask")
    number = 0
    for name, count in names.items():
        rows = ["image,label"]
        for _ in range(count):
            pixels, label = water_scene(number, bands=8)
            write_tiff(root / "images" / f"h{number}.tif", pixels.astype(np.int16), crs=None, names=bands)
            write_tiff(root / "labels" / f"h{number}.tif", label[None].astype(np.int16), crs=None, nodata=-1)
            rows.append(f"images/h{number}.tif,labels/h{number}.tif")
            number += 1
        (root / f"{name}.csv").write_text("\n".join(rows) + "\n")
    _, _, chipped = run_line(tmp_path / "store", root, usecase="water-hls")
    assert chipped["chips"]["holdout"] == 3
    assert chipped["chips"]["test"] == 4
    assert chipped["chips"]["train"] + chipped["chips"]["validation"] == 20
    assert chipped["chips"]["validation"] > 0
    dataset = Dataset(Store(str(tmp_path / "store")), chipped["dataset"])
    assert {c.scene for c in dataset.chips("test")} == {"h23", "h24", "h25", "h26"}
    assert len({c.cell for c in dataset.chips()}) == 27  # a scene without CRS is one cell


def test_simulated_and_real_scenes_never_share_a_dataset(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(30)
    (folder / "items").mkdir()
    for k in range(30):
        item = {
            "collection": "simulated",
            "properties": {"terraloop:simulated": True, "datetime": "2025-06-01T10:00:00Z"},
        }
        (folder / "items" / f"s{k:02d}.json").write_text(json.dumps(item))
    run_line(tmp_path / "store", folder)
    for path in (folder / "items").iterdir():
        path.unlink()
    for path in [*(folder / "images").iterdir(), *(folder / "labels").iterdir()]:
        path.rename(path.with_name("r" + path.name))
    _, _, chipped = run_line(tmp_path / "store", folder)
    assert chipped["simulated_left_out"] == 30
    manifest = Dataset(Store(str(tmp_path / "store")), chipped["dataset"]).manifest
    assert len(manifest.scenes) == 30
    assert not any(scene.simulated for scene in manifest.scenes)


@pytest.mark.parametrize("delay", [0.0, 0.15, 0.4])
def test_a_killed_ingest_leaves_nothing_half_written(make_folder: MakeFolder, tmp_path: Path, delay: float) -> None:
    folder = make_folder(40)
    root = tmp_path / "store"
    command = [sys.executable, "-m", "eo_data", "ingest", "--usecase", "water", "--store", str(root), "--source"]
    process = subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(root.glob("scenes/*/*/*/item.json")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = Store(str(root))
    seen = list_scenes(store)
    assert seen
    for scene in seen:  # whatever is visible is whole
        with rasterio.open(scene.raster_path) as stored, rasterio.open(folder / "images" / f"{scene.id}.tif") as given:
            assert np.array_equal(stored.read(), given.read())
    code, again, log = eo_data("ingest", "--store", str(root), "--source", str(folder))
    assert code == 0, log
    assert len(again["scenes"]["added"]) + len(again["scenes"]["present"]) == 40
    assert set(again["scenes"]["present"]) >= {scene.id for scene in seen}


def test_the_real_hls_chips_follow_their_lists(test_data: Path, tmp_path: Path) -> None:
    ingested, validated, chipped = run_line(tmp_path / "store", test_data / "hls-water", usecase="water-hls")
    assert len(ingested["scenes"]["added"]) == 182
    assert validated["quarantined"] == {}
    assert chipped["chips"]["test"] == 35
    assert chipped["chips"]["holdout"] == 25
    assert chipped["chips"]["train"] + chipped["chips"]["validation"] == 122
