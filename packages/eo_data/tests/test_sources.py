"""Sources: what a folder offers; a faulty entry is named and the rest goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_data.errors import DataRefused, UsageError
from eo_data.ingest import ingest
from eo_data.sources.candidate import Candidate
from eo_data.sources.folder import FolderListing, FolderSource
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS, write_tiff

WATER = UseCase.load(str(ROOT / "usecases" / "water"))
HLS = UseCase.load(str(ROOT / "usecases" / "water-hls"))
PIXELS = np.random.default_rng(0).integers(500, 3000, (13, 8, 8)).astype(np.uint16)


def offered(root: Path, usecase: UseCase = WATER) -> dict[str, Candidate]:
    return {candidate.id: candidate for candidate in FolderSource(str(root), usecase.data).candidates()}


def image(root: Path, name: str, **how: Any) -> Path:
    return write_tiff(root / "images" / f"{name}.tif", PIXELS, names=S2_BANDS, **how)


def bring(root: Path, tmp_path: Path, usecase: UseCase = WATER) -> dict[str, Any]:
    scenes: dict[str, Any] = ingest(Store(str(tmp_path / "store")), usecase, str(root), progress=False)["scenes"]
    return scenes


# --- by pattern


def test_pairs_are_found_by_the_first_pattern_that_finds_any(tmp_path: Path) -> None:
    for name in ("S2L1C/t1.tif", "WaterLabel/t1.tif", "S2Hand/a_S2Hand.tif", "LabelHand/a_LabelHand.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "S2Hand" / "b_S2Hand.tif").touch()
    (tmp_path / "S2Hand" / "c_other.tif").touch()
    found = offered(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["a"].where == str(tmp_path / "S2Hand" / "a_S2Hand.tif")
    assert found["a"].label == str(tmp_path / "LabelHand" / "a_LabelHand.tif")
    assert found["b"].label is None
    assert found["a"].collection == tmp_path.name


def test_thousands_of_files_are_offered_sorted(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for k in range(4000):
        (tmp_path / "images" / f"s{k}.tif").touch()
    found = FolderSource(str(tmp_path), WATER.data).candidates()
    assert len(found) == 4000
    assert [candidate.id for candidate in found] == sorted(f"s{k}" for k in range(4000))


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataRefused, match=r"no image is found \(looked for images/{id}.tif, S2Hand/"):
        offered(tmp_path)


@pytest.mark.parametrize("uri", ["{root}/none", "{root}/file", "s3://bucket/folder", "file://host/folder"])
def test_what_is_no_folder_is_a_usage_error(tmp_path: Path, uri: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        FolderSource(uri.format(root=tmp_path), WATER.data)


@pytest.mark.parametrize(
    "name", ["a b", "ä", "-a", ".a", "a;rm", "a\nb", "a\n", "x" * 129, "x" * 251, os.fsdecode(b"caf\xe9")]
)
def test_an_id_that_is_no_folder_name_is_refused_by_it(tmp_path: Path, name: str) -> None:
    root = tmp_path / "source"
    image(root, "good")
    image(root, "good").rename(root / "images" / f"{name}.tif")
    image(root, "good")
    scenes = bring(root, tmp_path)
    assert scenes["added"] == ["good"]
    assert list(scenes["refused"]) == [name]
    assert "is no id" in scenes["refused"][name]


def test_a_folder_named_anything_gives_a_collection(tmp_path: Path) -> None:
    root = tmp_path / "my scenes, März"
    image(root, "good")
    assert bring(root, tmp_path)["added"] == ["good"]
    assert [path.name for path in (tmp_path / "store" / "scenes").iterdir()] == ["my-scenes-M-rz"]


def test_a_folder_in_the_place_of_a_file_is_refused_by_name(tmp_path: Path) -> None:
    root = tmp_path / "source"
    image(root, "good")
    (root / "images" / "folder.tif").mkdir()
    (root / "images" / "link.tif").symlink_to("nowhere.tif")
    scenes = bring(root, tmp_path)
    assert scenes["added"] == ["good"]
    assert set(scenes["refused"]) == {"folder", "link"}
    assert "no such file" in scenes["refused"]["folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    root = tmp_path / "source"
    image(root, "good")
    image(root, "secret").chmod(0)
    scenes = bring(root, tmp_path)
    assert scenes["added"] == ["good"]
    assert "may not be read" in scenes["refused"]["secret"]


def test_a_source_inside_the_store_is_a_source_like_any_other(tmp_path: Path) -> None:
    root = tmp_path / "store" / "incoming"
    image(root, "good")
    store = Store(str(tmp_path / "store"))
    first = ingest(store, WATER, str(root), progress=False)
    assert first["scenes"]["added"] == ["good"]
    again = ingest(store, WATER, str(root), progress=False)
    assert again["scenes"] == {"added": [], "present": ["good"], "refused": {}}
    assert again["batch"] == first["batch"]


# --- by list


def listed(root: Path, data: bytes, name: str = "train") -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.csv").write_bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"image,label\nimages/a.tif,labels/a.tif\nimages/b.tif,\n",
        b"\xef\xbb\xbfimage,label\r\nimages/a.tif,labels/a.tif\r\nimages/b.tif,\r\n",
        b"label,image\nlabels/a.tif,images/a.tif\n,images/b.tif\n",
        b'place,image,label\n"Chad, lake",images/a.tif,labels/a.tif\nx,images/b.tif,\n',
        b"image, label\nimages/a.tif, labels/a.tif\nimages/b.tif\n",
        b"image,label\n./images/../images/a.tif , labels/a.tif\n\n\nimages/b.tif,,more\n",
    ],
)
def test_lists_may_come_from_anywhere(tmp_path: Path, data: bytes) -> None:
    listed(tmp_path, data)
    found = offered(tmp_path, HLS)
    assert list(found) == ["a", "b"]
    assert found["a"].where == str(tmp_path / "images" / "a.tif")
    assert found["a"].label == str(tmp_path / "labels" / "a.tif")
    assert found["b"].label is None
    assert {candidate.source_split for candidate in found.values()} == {"train"}
    assert [candidate.fault for candidate in found.values()] == [None, None]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the columns image and label"),
        (b"picture,label\na,b\n", "the columns image and label"),
        (b"image\na.tif\n", "the columns image and label"),
        (b"image;label\na.tif;b.tif\n", "the columns image and label"),
        (b"image,label\nim\xe9.tif,\n", "cannot be read"),
        (b"\xff\xfei\x00m\x00", "cannot be read"),
        (b'image,label\n"' + b"x" * 200_000 + b'",\n', "cannot be read"),
    ],
)
def test_what_is_no_list_is_refused_by_its_path(tmp_path: Path, data: bytes, said: str) -> None:
    listed(tmp_path, data)
    with pytest.raises(DataRefused, match=rf"train\.csv: .*{said}") as refusal:
        offered(tmp_path, HLS)
    assert refusal.value.fix


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"../secret.tif,", "lies outside the folder"),
        (b"/etc/passwd,", "lies outside the folder"),
        (b"images/good.tif,../../labels/good.tif", "lies outside the folder"),
        (b",labels/good.tif", "names no image"),
        (b"  ,", "names no image"),
        (b"images/\0.tif,", "is no path"),
        (b"images/" + b"x" * 300 + b".tif,", "is no path"),
        (b"x/" * 3000 + b"a.tif,", "is no path"),
        (b"loop/a.tif,", "is no path"),
        (b"gate/secret.tif,", "lies outside the folder"),
    ],
)
def test_a_faulty_row_is_refused_by_its_line_and_the_rest_goes_on(tmp_path: Path, row: bytes, said: str) -> None:
    root = tmp_path / "source"
    write_tiff(root / "images" / "good.tif", np.ones((7, 32, 32), np.int16), crs=None)
    (tmp_path / "secret.tif").write_bytes((root / "images" / "good.tif").read_bytes())
    (root / "loop").symlink_to("loop")
    (root / "gate").symlink_to("..")
    listed(root, b"image,label\n" + row + b"\nimages/good.tif,\n")
    scenes = bring(root, tmp_path, HLS)
    assert scenes["added"] == ["good"]
    assert list(scenes["refused"]) == ["train.csv, line 2"]
    assert said in scenes["refused"]["train.csv, line 2"]


def test_a_listed_file_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    root = tmp_path / "source"
    write_tiff(root / "images" / "good.tif", np.ones((7, 32, 32), np.int16), crs=None)
    listed(root, b"image,label\nimages/gone.tif,\nimages/good.tif,\n")
    scenes = bring(root, tmp_path, HLS)
    assert scenes["added"] == ["good"]
    assert "no such file" in scenes["refused"]["gone"]


def test_an_image_in_two_lists_leaks_and_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "source"
    for name in ("a", "b", "c"):
        write_tiff(root / "images" / f"{name}.tif", np.ones((7, 32, 32), np.int16), crs=None)
    write_tiff(root / "more" / "c.tif", np.ones((7, 32, 32), np.int16), crs=None)
    listed(root, b"image,label\nimages/a.tif,\nimages/b.tif,\nimages/c.tif,\nmore/c.tif,\n")
    listed(root, b"image,label\nimages/a.tif,\n", "test")
    scenes = bring(root, tmp_path, HLS)
    assert scenes["added"] == ["b"]
    assert "a.tif of train.csv and for a.tif of test.csv" in scenes["refused"]["a"]
    assert set(scenes["refused"]) == {"a", "c"}


def test_lists_come_before_patterns_and_unknown_lists_are_no_lists(tmp_path: Path) -> None:
    image(tmp_path, "by-pattern")
    listed(tmp_path, b"image,label\nelsewhere/x.tif,\n", "notes")
    assert list(offered(tmp_path, HLS)) == ["by-pattern"]
    listed(tmp_path, b"image,label\nelsewhere/x.tif,\n", "val")
    assert list(offered(tmp_path, HLS)) == ["x"]


def test_a_list_is_read_through_links_of_folders_as_the_system_does(tmp_path: Path) -> None:
    root = tmp_path / "source"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "link").symlink_to("sub/deep")
    (tmp_path / "secret.tif").write_bytes(b"secret")
    (root / "secret.tif").write_bytes(b"open")
    listing = FolderListing(root)
    name = listing.inside("link/../../secret.tif", "train.csv")
    assert listing.read(name) == b"open"
