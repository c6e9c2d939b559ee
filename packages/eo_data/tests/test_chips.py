"""Chips: which pixels a chip holds, and what the dataset's digest follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from eo_data.chips import chip
from eo_data.dataset import Dataset, model_input
from eo_data.errors import DataRefused, UsageError
from eo_data.store import Store
from eo_data.usecase import SPLITS, UseCase

from .conftest import ROOT, S2_BANDS, lonely_origin, water_scene, write_tiff
from .verdicts_by_hand import accept

MakeFolder = Callable[[int], Path]
SMALL = 32


def small_usecase(**data: Any) -> UseCase:
    """The water use case with chips of 32 pixels and a split in which six scenes of `write_pairs` fall on all sides."""
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())
    quarters = {"salt": "chips 10", "fractions": dict.fromkeys(SPLITS, 0.25)}
    sections["data"] |= {"chip": {"size": SMALL, "min_valid_fraction": 0.1}, "split": quarters, **data}
    return UseCase("water", sections)


def write_pair(
    root: Path, number: int, *, pixels: NDArray[Any] | None = None, label: NDArray[Any] | None = None, seed: int = 0,
    **how: Any,
) -> None:  # fmt: skip
    """A scene of its own cell; cells are 40 km apart."""
    own_pixels, own_label = water_scene(1000 * seed + number, size=40)
    origin = lonely_origin(number, size=40)
    name = f"s{number:02d}.tif"
    image = own_pixels if pixels is None else pixels
    write_tiff(root / "images" / name, image, names=S2_BANDS, origin=origin, **{"nodata": 0, **how})
    if label is None:
        label = own_label
    write_tiff(root / "labels" / name, label[None], origin=origin, **({"crs": how["crs"]} if "crs" in how else {}))


def write_pairs(root: Path, count: int) -> Path:
    for number in range(count):
        write_pair(root, number)
    return root


# --- which pixels


def test_every_pixel_is_in_one_chip_and_edges_are_padded(tmp_path: Path, store: Store) -> None:
    usecase = small_usecase()
    verdicts = accept(store, usecase, str(write_pairs(tmp_path / "source", 8)))
    dataset = Dataset(store, chip(store, usecase, verdicts, progress=False)["dataset"])
    seen: dict[str, NDArray[np.int64]] = {}
    for record in dataset.chips():
        image, label = dataset.read(record)
        pixels, truth = water_scene(int(record.scene[1:]), size=40)
        rows, columns = min(SMALL, 40 - record.top), min(SMALL, 40 - record.left)
        window = np.s_[record.top : record.top + rows, record.left : record.left + columns]
        assert np.array_equal(image[:, :rows, :columns], pixels[[1, 2, 3, 7, 11, 12]][(slice(None), *window)])
        assert np.array_equal(label[:rows, :columns], truth[window])
        assert (image[:, rows:] == 0).all()
        assert (image[:, :, columns:] == 0).all()
        assert (label[rows:] == 255).all()
        assert (label[:, columns:] == 255).all()
        assert record.class_counts == tuple(int((label == k).sum()) for k in (0, 1))
        assert record.valid_fraction == pytest.approx((label != 255).mean(), abs=1e-6)
        seen.setdefault(record.scene, np.zeros((40, 40), int))[window] += 1
    assert len(seen) >= 6
    assert max(counts.max() for counts in seen.values()) == 1
    # 40 = 32 + 8: the corner of 8 x 8 scores 6 % of a chip, less than a tenth
    assert all(counts[32:, 32:].sum() == 0 for counts in seen.values())
    assert dataset.manifest.dropped["too few scored pixels"] == 8


def test_what_has_no_data_is_0_and_not_scored(tmp_path: Path, store: Store) -> None:
    usecase, root = small_usecase(), write_pairs(tmp_path / "source", 8)
    pixels, label = water_scene(0, size=40)
    pixels[5, 3, 4] = 0  # one band that nobody reads: B06
    pixels[1, 7, 8] = 0  # one band of the inputs: B02
    label[9, 9] = 255
    write_pair(root, 0, pixels=pixels, label=label)
    dataset = Dataset(store, chip(store, usecase, accept(store, usecase, str(root)), progress=False)["dataset"])
    record = next(c for c in dataset.chips() if c.scene == "s00" and (c.top, c.left) == (0, 0))
    image, truth = dataset.read(record)
    assert image[:, 3, 4].tolist() == pixels[[1, 2, 3, 7, 11, 12], 3, 4].tolist()
    assert truth[3, 4] == label[3, 4]
    assert image[:, 7, 8].tolist() == [0] * 6
    assert truth[7, 8] == truth[9, 9] == 255
    values, valid = model_input(image)
    assert np.argwhere(~valid).tolist() == [[7, 8]]
    assert values.dtype == np.float32


def test_reflectance_beyond_int16_is_clipped_not_wrapped(tmp_path: Path, store: Store) -> None:
    usecase, root = small_usecase(), write_pairs(tmp_path / "source", 8)
    write_pair(root, 0, pixels=np.full((13, 40, 40), 65535, np.uint16))
    dataset = Dataset(store, chip(store, usecase, accept(store, usecase, str(root)), progress=False)["dataset"])
    record = next(c for c in dataset.chips() if c.scene == "s00")
    assert (dataset.read(record)[0][:, :8, :8] == 32767).all()


def test_adding_scenes_never_changes_a_side(tmp_path: Path, store: Store) -> None:
    usecase, root = small_usecase(), tmp_path / "source"
    sides: list[dict[tuple[str, int, int], str]] = []
    for count in (6, 20):
        verdicts = accept(store, usecase, str(write_pairs(root, count)))
        dataset = Dataset(store, chip(store, usecase, verdicts, progress=False)["dataset"])
        sides.append({(c.scene, c.top, c.left): c.split for c in dataset.chips()})
        by_cell: dict[str, set[str]] = {}
        for record in dataset.chips():
            by_cell.setdefault(record.cell, set()).add(record.split)
        assert all(len(splits) == 1 for splits in by_cell.values())
    before, after = sides
    assert before.items() <= after.items()
    assert len(after) > len(before)


def test_statistics_are_of_the_training_split_alone(tmp_path: Path, store: Store) -> None:
    usecase, root = small_usecase(), write_pairs(tmp_path / "source", 8)
    dataset = Dataset(store, chip(store, usecase, accept(store, usecase, str(root)), progress=False)["dataset"])
    train = [dataset.read(record) for record in dataset.chips("train")]
    values = np.concatenate([image[:, (image != 0).any(axis=0)] for image, _ in train], axis=1).astype(float)
    assert dataset.statistics.pixels == values.shape[1]
    assert np.allclose(dataset.statistics.mean, values.mean(axis=1), atol=1e-3)
    assert np.allclose(dataset.statistics.std, values.std(axis=1), atol=1e-3)
    counts = [sum(int((label == k).sum()) for _, label in train) for k in (0, 1)]
    assert list(dataset.statistics.class_counts) == counts


# --- the digest


def digest_of(tmp_path: Path, name: str, usecase: UseCase, change: Callable[[Path], None] = lambda root: None) -> str:
    root = write_pairs(tmp_path / name / "source", 6)
    change(root)
    store = Store(str(tmp_path / name / "store"))
    return str(chip(store, usecase, accept(store, usecase, str(root)), progress=False)["digest"])


def test_the_digest_follows_what_it_should_and_nothing_else(tmp_path: Path) -> None:
    usecase = small_usecase()

    def moved_label(root: Path) -> None:
        label = water_scene(5, size=40)[1]
        label[0, 0] = 1 - label[0, 0]
        write_pair(root, 5, label=label)

    def recompressed(root: Path) -> None:
        pixels, _ = water_scene(5, size=40)
        write_pair(root, 5, pixels=pixels, compress="lzw")

    first = digest_of(tmp_path, "first", usecase)
    assert digest_of(tmp_path, "again, elsewhere", usecase) == first
    assert digest_of(tmp_path, "recompressed", usecase, recompressed) == first
    others = [
        digest_of(tmp_path, "label", usecase, moved_label),
        digest_of(tmp_path, "pixels", usecase, lambda root: write_pair(root, 5, seed=7)),
        digest_of(tmp_path, "radiometry", usecase, lambda root: write_pair(root, 5, nodata=7)),
        digest_of(tmp_path, "grid", usecase, lambda root: write_pair(root, 5, crs="EPSG:32631")),
        digest_of(tmp_path, "less", usecase, lambda root: (root / "images" / "s05.tif").unlink()),
        digest_of(tmp_path, "usecase", small_usecase(chip={"size": 16, "min_valid_fraction": 0.1})),
    ]
    assert len({first, *others}) == 7


def test_a_spoilt_or_foreign_dataset_is_refused_by_its_uri(tmp_path: Path, store: Store) -> None:
    usecase = small_usecase()
    verdicts = accept(store, usecase, str(write_pairs(tmp_path / "source", 6)))
    result = chip(store, usecase, verdicts, progress=False)
    assert Dataset(store, result["dataset"] + "/manifest.json").digest == result["digest"]
    for wrong in (verdicts, "datasets/none", store.resolve("datasets/none/manifest.json")):
        with pytest.raises(DataRefused, match="no such object"):
            Dataset(store, wrong)
    store.put_new("datasets/old/manifest.json", b'{"digest": "old", "colour": "red"}')
    with pytest.raises(DataRefused, match=r"datasets/old/manifest\.json: this is no manifest record"):
        Dataset(store, "datasets/old")
    with pytest.raises(UsageError, match="outside the store"):
        Dataset(store, "file:///elsewhere/datasets/1")
