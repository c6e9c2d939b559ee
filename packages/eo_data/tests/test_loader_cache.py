"""Chips that were decoded once: a dataset's shards, and the cache of decoded rasters."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from eo_data.chips import chip
from eo_data.dataset import Dataset, model_input
from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.loader import ChipLoader, DatasetSource, RasterPair, RasterSource, grid_chips, jittered_chips
from eo_data.scene import list_scenes
from eo_data.store import Store
from eo_data.usecase import SPLITS, UseCase

from .conftest import ROOT, S2_BANDS, water_scene, write_tiff
from .loader_data import DATA, check_equal, make_loader, write_pair
from .verdicts_by_hand import accept


@pytest.fixture
def dataset(tmp_path: Path, store: Store) -> Dataset:
    """Eight scenes without CRS, two per split by list; a part of each has no data."""
    root = tmp_path / "scenes"
    for number in range(8):
        pixels, label = water_scene(number, size=128)
        if number % 2:
            pixels[:, 40:80, 10:100] = 0
            pixels[0, 100:, :] = 0  # one band only: data all the same
        write_tiff(root / "images" / f"s{number}.tif", pixels, crs=None, names=S2_BANDS, nodata=None)
        write_tiff(root / "labels" / f"s{number}.tif", label[None], crs=None)
    for number, split in enumerate(SPLITS):
        names = (f"s{2 * number}", f"s{2 * number + 1}")
        rows = [f"images/{name}.tif,labels/{name}.tif" for name in names]
        (root / f"{split}.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())
    rule = {"salt": "cache", "lists": {split: split for split in SPLITS}}
    sections["data"] |= {"chip": {"size": 32, "min_valid_fraction": 0.0}, "split": rule}
    usecase = UseCase("water", sections)
    return Dataset(store, chip(store, usecase, accept(store, usecase, str(root)), progress=False)["dataset"])


def test_chips_of_a_dataset_come_as_the_dataset_reads_them(dataset: Dataset) -> None:
    source = DatasetSource(dataset, "train", "test")
    loader = ChipLoader(source, source.chips, minibatch=5, seed=1)
    for _ in range(2):  # the second time what was seen is remembered
        seen = []
        for minibatch in loader:
            for slot, place in enumerate(minibatch.chips):
                record = source.records[place.number]
                image, label = dataset.read(record)
                pixels, valid = model_input(image)
                np.testing.assert_array_equal(minibatch.images[slot], pixels)
                np.testing.assert_array_equal(minibatch.labels[slot], label)
                np.testing.assert_array_equal(minibatch.valid[slot], valid)
                seen.append((record.shard, record.index))
        assert len(seen) == len(set(seen)) == len(dataset.chips("train", "test"))


def test_chips_of_a_dataset_are_normalised_and_zero_without_data(dataset: Dataset) -> None:
    source, measured = DatasetSource(dataset, "train"), dataset.statistics
    mean, std = (np.array(part).reshape(-1, 1, 1) for part in (measured.mean, measured.std))
    gaps = 0
    for minibatch in ChipLoader(source, source.chips, minibatch=4, mean=measured.mean, std=measured.std):
        for slot, place in enumerate(minibatch.chips):
            pixels, valid = model_input(dataset.read(source.records[place.number])[0])
            wanted = np.where(valid, (pixels - mean) / std, 0)
            np.testing.assert_allclose(minibatch.images[slot], wanted, rtol=1e-4, atol=1e-4)
            gaps += int((~valid).sum())
    assert gaps


def test_minibatches_of_a_dataset_mix_its_shards(dataset: Dataset) -> None:
    source = DatasetSource(dataset)
    chips = source.chips
    assert len(chips) == 128
    loader = ChipLoader(source, chips, minibatch=16)
    for minibatch in loader:
        assert len({int(chips.block[place.number]) for place in minibatch.chips}) >= 8


def test_a_shard_that_is_gone_or_cut_is_refused_by_name(dataset: Dataset, store: Store) -> None:
    folder = Path(store.raster_path(store.key(dataset.uri))) / "chips"
    victim = next(folder.glob("s0.*.images.npy"))
    for damage in ("cut", "gone"):
        if damage == "cut":
            os.truncate(victim, 3000)
        else:
            victim.unlink()
        source = DatasetSource(Dataset(store, dataset.uri), "train")
        with pytest.raises(DataRefused, match="chips") as refusal:
            list(ChipLoader(source, source.chips, minibatch=4))
        assert "s0" in refusal.value.where


def test_scenes_of_a_store_are_read_as_their_items_say(dataset: Dataset, store: Store, water: UseCase) -> None:
    scenes = list_scenes(store)[:2]
    source = RasterSource([RasterPair.of_scene(scene) for scene in scenes], water.data)
    for minibatch in ChipLoader(source, grid_chips(source.grids, 64), minibatch=3):
        for slot, place in enumerate(minibatch.chips):
            with scenes[place.raster].image(water.data) as image:
                pixels, valid = image.read(place.top, place.left, 64, 64)
            np.testing.assert_array_equal(minibatch.images[slot], pixels)
            np.testing.assert_array_equal(minibatch.valid[slot], valid)


# --- decoded rasters


@pytest.mark.parametrize("kind", [{}, {"nodata": 0, "least": 0}, {"dtype": "float32", "predictor": 1, "nodata": 9}])
def test_cached_rasters_give_the_same_chips(tmp_path: Path, kind: dict[str, object]) -> None:
    pairs = [write_pair(tmp_path, "a", **kind), write_pair(tmp_path, "b", (70, 90), tiled=False)]  # type: ignore[arg-type]
    for _ in range(2):
        source = RasterSource(pairs, DATA, cache=tmp_path / "cache")
        assert source.decoders == ["cache", "cache"]
        for chips in (grid_chips(source.grids, 48), jittered_chips(source.grids, 40)):
            loader = make_loader(source, chips)
            for minibatch in loader:
                check_equal(pairs, minibatch, chips.size)
            assert loader.buffered_bytes == 0
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_second_run_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = write_pair(tmp_path)
    RasterSource([pair], DATA, cache=tmp_path / "cache")

    def decode(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("eo_data.loader.decoded_rasters.read_block", decode)
    source = RasterSource([pair], DATA, cache=tmp_path / "cache")
    assert len(list(make_loader(source, grid_chips(source.grids, 64)))) == 6


def test_other_content_bands_or_classes_have_a_cache_of_their_own(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    pair = write_pair(tmp_path)
    classes = DATA.model_copy(update={"ignore_label_values": (9, 10)})
    for data in (DATA, DATA.model_copy(update={"inputs": ("B1", "B2")}), classes):
        RasterSource([pair], data, cache=cache)
    RasterSource([RasterPair(pair.image)], DATA, cache=cache)
    RasterSource([write_pair(tmp_path, "a", (200, 330), least=50)], DATA, cache=cache)
    assert len(list(cache.iterdir())) == 5


def kill_half_way(pair: RasterPair, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("eo_data.loader.decoded_rasters.read_block", fail)
        with pytest.raises(KeyboardInterrupt):
            RasterSource([pair], DATA, cache=cache)


def test_a_run_that_ends_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, cache = write_pair(tmp_path), tmp_path / "cache"
    kill_half_way(pair, cache, monkeypatch)
    assert list(cache.iterdir()) == []


def damage_by(action: Callable[[Path], None], folder: Path) -> None:
    for path in folder.glob("*/pixels.npy"):
        action(path)


def test_a_damaged_cache_is_refused_with_its_folder(tmp_path: Path) -> None:
    pair, cache = write_pair(tmp_path), tmp_path / "cache"
    RasterSource([pair], DATA, cache=cache)
    damage_by(lambda path: os.truncate(path, 5000), cache)
    with pytest.raises(DataRefused, match="cache is damaged") as refusal:
        RasterSource([pair], DATA, cache=cache)
    assert str(cache) in refusal.value.where
    damage_by(Path.unlink, cache)
    with pytest.raises(DataRefused, match="cache is damaged"):
        RasterSource([pair], DATA, cache=cache)


def test_a_cache_that_cannot_be_written_is_a_temporary_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TemporaryFailure, match="cache cannot be written"):
        RasterSource([write_pair(tmp_path)], DATA, cache=tmp_path / "file" / "cache")
