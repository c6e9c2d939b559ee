"""Cutting part by part: the same chips whatever the blocks and wherever it is done; nothing is ever half there."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from numpy.typing import NDArray

from eo_data import cutting
from eo_data.chips import chip
from eo_data.cutting import PART_BYTES, WINDOW_BYTES, plan_rows
from eo_data.dataset import Dataset, model_input
from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.labels import open_label, read_label
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import S2_BANDS, lonely_origin, water_scene, write_tiff
from .test_chips import small_usecase, write_pair, write_pairs
from .verdicts_by_hand import accept


def write_large(root: Path, *, size: int = 400, **profile: Any) -> Path:
    """A scene over many cells, with some pixels without data and some labels that are not scored."""
    pixels, label = water_scene(3, size=size)
    pixels[:, :50, :60] = 0
    label[100:130, 200:260] = 255
    origin = lonely_origin(0, size)
    write_tiff(root / "images" / "large.tif", pixels, names=S2_BANDS, nodata=0, origin=origin, step=30.0, **profile)
    write_tiff(root / "labels" / "large.tif", label[None], origin=origin, step=30.0)
    return root


def objects(store: Store) -> dict[str, bytes]:
    """All objects of the store's datasets."""
    return {key: store.get(key) for key in store.list("datasets")}


@pytest.mark.parametrize("size", [16, 32, 96, 128, 256, 1024])
@pytest.mark.parametrize("blocks", [(512, 512), (256, 256), (1, 10980), (16, 10980), (1024, 1024), (500, 300)])
def test_a_large_scene_is_taken_in_parts_that_end_with_blocks(size: int, blocks: tuple[int, int]) -> None:
    rows = plan_rows((10980, 10980), blocks, size, 6)
    tops, bottoms = zip(*rows.bounds, strict=True)
    assert tops == (0, *bottoms[:-1])
    assert bottoms[-1] == 10980
    assert all(top % size == 0 for top in tops)
    height, width = rows.window
    assert height % size == width % size == 0
    assert all((bottom - top) % height == 0 for top, bottom in rows.bounds[:-1])
    part = max(bottom - top for top, bottom in rows.bounds) * -(-10980 // size) * size * 13
    assert part <= 3 * PART_BYTES
    assert height * width * 24 <= max(WINDOW_BYTES, size * size * 24 * 8)
    if (blocks[0] * blocks[1]) % (size * size) == 0 or (size * size) % (blocks[0] * blocks[1]) == 0:
        assert rows.aligned or height * 10980 * 13 > PART_BYTES or blocks[1] == 10980


def test_parts_and_blocks_do_not_change_the_chips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One part or many, tiles or strips: the same chips, statistics and digest."""
    usecase = small_usecase()
    found: list[tuple[str, dict[Any, Any], Any]] = []
    for name, part_bytes, profile in (
        ("one", 64 << 20, {"tiled": True, "blockxsize": 128, "blockysize": 128}),
        ("many", 1 << 18, {"tiled": True, "blockxsize": 128, "blockysize": 128}),
        ("strips", 1 << 16, {"blockysize": 7}),
        ("pixel", 1 << 18, {"interleave": "pixel"}),
    ):
        monkeypatch.setattr(cutting, "PART_BYTES", part_bytes)
        monkeypatch.setattr(cutting, "WINDOW_BYTES", part_bytes)
        store = Store(str(tmp_path / name / "store"))
        verdicts = accept(store, usecase, str(write_large(tmp_path / name / "source", **profile)))
        dataset = Dataset(store, chip(store, usecase, verdicts, progress=False)["dataset"])
        shards = {record.shard for record in dataset.chips()}
        assert (len(shards) == 1) == (name == "one")
        chips = {
            (record.top, record.left, record.split): [array.tobytes() for array in dataset.read(record)]
            for record in dataset.chips()
        }
        found.append((dataset.digest, chips, dataset.statistics))
        assert dataset.manifest.dropped["within a chip of another side"] > 0
        places = [(record.top, record.left) for record in dataset.chips()]
        assert places == sorted(places)
    assert found[0] == found[1] == found[2] == found[3]
    with rasterio.open(tmp_path / "one" / "source" / "images" / "large.tif") as source:
        pixels = source.read([2, 3, 4, 8, 12, 13])
    for (top, left, _), (image, _) in found[0][1].items():
        expected = np.zeros((6, 32, 32), np.int16)
        window = pixels[:, top : top + 32, left : left + 32]
        expected[:, : window.shape[1], : window.shape[2]] = window
        assert image == expected.tobytes()


def test_on_a_cluster_every_byte_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "PART_BYTES", 1 << 18)
    usecase = small_usecase()
    source = write_pairs(write_large(tmp_path / "source"), 3)
    store = Store(str(tmp_path / "store"))
    verdicts = accept(store, usecase, str(source))
    here = chip(store, usecase, verdicts, progress=False)
    first = objects(store)
    assert len(first) > 10
    shutil.rmtree(tmp_path / "store" / "datasets")
    there = chip(store, usecase, verdicts, dask="local", progress=False)
    assert there == here
    assert objects(store) == first


def test_a_black_pixel_with_data_stays_one_with_data(tmp_path: Path, store: Store) -> None:
    usecase, root = small_usecase(reflectance={"scale": 0.0001, "offset": -0.1}), write_pairs(tmp_path / "source", 8)
    pixels, _ = water_scene(0, size=40)
    pixels[:, 3, 4] = 1000  # reflectance 0 in every band
    pixels[:, 5, 6] = 0
    write_pair(root, 0, pixels=pixels)
    dataset = Dataset(store, chip(store, usecase, accept(store, usecase, str(root)), progress=False)["dataset"])
    record = next(c for c in dataset.chips() if c.scene == "s00" and (c.top, c.left) == (0, 0))
    image, label = dataset.read(record)
    assert image[:, 3, 4].tolist() == [1, 0, 0, 0, 0, 0]
    assert label[3, 4] != 255
    assert np.argwhere(~model_input(image)[1]).tolist() == [[5, 6]]


def test_a_label_read_by_window_is_the_label(tmp_path: Path, water: UseCase) -> None:
    label: NDArray[np.uint8] = water_scene(0, size=100)[1]
    label[:3] = 255
    path = str(write_tiff(tmp_path / "label.tif", label[None], nodata=255))
    whole = read_label(path, water.data, "l")
    with open_label(path, water.data, "l") as raster:
        assert raster.shape == (100, 100)
        assert np.array_equal(raster.read(2, 30, 50, 20), whole[2:52, 30:50])


# --- interrupted


def test_a_store_that_loses_a_scene_on_the_way_is_a_temporary_failure(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    usecase = small_usecase()
    verdicts = accept(store, usecase, str(write_pairs(tmp_path / "source", 6)))
    scenes, away, put_new = tmp_path / "store" / "scenes", tmp_path / "away", Store.put_new

    def put_and_lose(self: Store, key: str, data: bytes | Path) -> bool:
        if scenes.exists():
            scenes.rename(away)
        return put_new(self, key, data)

    with monkeypatch.context() as lost:
        lost.setattr(Store, "put_new", put_and_lose)
        with pytest.raises(TemporaryFailure, match="has lost what it held"):
            chip(store, usecase, verdicts, progress=False)
    assert not list((tmp_path / "store").rglob("manifest.json"))
    away.rename(scenes)
    assert Dataset(store, chip(store, usecase, verdicts, progress=False)["dataset"]).chips("train")


def test_a_scene_that_cannot_be_decoded_any_more_is_refused_by_name(tmp_path: Path, store: Store) -> None:
    usecase = small_usecase()
    verdicts = accept(store, usecase, str(write_pairs(tmp_path / "source", 6)))
    (image,) = (tmp_path / "store" / "scenes").glob("*/s02/*/image.tif")
    data = bytearray(image.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    image.write_bytes(bytes(data))
    with pytest.raises(DataRefused, match="s02"):
        chip(store, usecase, verdicts, progress=False)
    assert not list((tmp_path / "store").rglob("manifest.json"))


DIES = """
import os, signal, sys
from eo_data import cli, store

put_new, left = store.Store.put_new, [int(sys.argv[1])]

def put_and_die(self, key, data):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return put_new(self, key, data)

store.Store.put_new = put_and_die
cli.main(sys.argv[2:])
"""
"""The command, killed when it is about to write one object more than its first argument says."""


def test_chip_killed_half_way_and_run_again_gives_the_whole_dataset(tmp_path: Path, store: Store) -> None:
    usecase, root = small_usecase(), tmp_path / "usecases" / "water"
    root.mkdir(parents=True)
    (root / "usecase.yaml").write_text(
        yaml.safe_dump({"title": usecase.title, "data": usecase.data.model_dump(mode="json")})
    )
    verdicts = accept(store, usecase, str(write_pairs(tmp_path / "source", 8)))
    digest = chip(store, usecase, verdicts, progress=False)["digest"]
    whole = objects(store)
    for written in (5, len(whole) - 1):  # among the chips; all but the manifest
        shutil.rmtree(tmp_path / "store" / "datasets")
        command = ["chip", "--usecase", str(root), "--store", store.uri, "--verdicts", verdicts]
        run = subprocess.run([sys.executable, "-c", DIES, str(written), *command], capture_output=True, check=False)
        assert run.returncode == -signal.SIGKILL, run.stderr
        assert len(objects(store)) == written
        assert not list((tmp_path / "store").rglob("manifest.json"))
        again = chip(store, usecase, verdicts, progress=False)
        assert (again["digest"], again["existing"]) == (digest, False)
        assert objects(store) == whole
