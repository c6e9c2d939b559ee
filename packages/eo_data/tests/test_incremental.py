"""Ingest again: what is there is not read, what was broken off goes on, what was reissued is another content."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eo_data import ingest as ingest_module
from eo_data.ingest import ingest
from eo_data.scene import Scene, list_scenes
from eo_data.sources.folder import FolderSource
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS, water_scene, write_tiff

WATER = UseCase.load(str(ROOT / "usecases" / "water"))

MakeFolder = Callable[..., Path]


def bring(store: Store, folder: Path) -> dict[str, Any]:
    return ingest(store, WATER, str(folder), progress=False)


def spoil(path: Path) -> None:
    """Other bytes of the same length and time: whoever reads them, sees it."""
    facts = path.stat()
    path.write_bytes(b"\xff" * facts.st_size)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_what_is_there_is_not_read_again(make_folder: MakeFolder, store: Store) -> None:
    folder = make_folder(3)
    first = bring(store, folder)
    for path in folder.rglob("*.tif"):
        spoil(path)
    again = bring(store, folder)
    assert again["batch"] == first["batch"]
    for kind in ("scenes", "labels"):
        assert first[kind]["added"] == again[kind]["present"] == ["s00", "s01", "s02"]
        assert again[kind]["added"] == []


def test_only_what_is_new_is_added(make_folder: MakeFolder, store: Store) -> None:
    folder = make_folder(2)
    first = bring(store, folder)
    for path in folder.rglob("*.tif"):
        spoil(path)
    pixels, label = water_scene(7)
    write_tiff(folder / "images" / "new.tif", pixels, names=S2_BANDS)
    write_tiff(folder / "labels" / "new.tif", label[None])
    grown = bring(store, folder)
    assert grown["scenes"] == {"added": ["new"], "present": ["s00", "s01"], "refused": {}}
    assert grown["batch"] != first["batch"]


def test_a_scene_that_was_taken_out_of_the_store_is_brought_again(make_folder: MakeFolder, store: Store) -> None:
    folder = make_folder(2)
    first = bring(store, folder)
    Path(Scene.find(store, "s00").raster_path).with_name("item.json").unlink()
    again = bring(store, folder)
    assert again["scenes"] == {"added": ["s00"], "present": ["s01"], "refused": {}}
    assert again["batch"] == first["batch"]


def test_a_refused_scene_leaves_no_mark_and_is_tried_again(make_folder: MakeFolder, store: Store) -> None:
    folder = make_folder(2)
    whole = (folder / "images" / "s00.tif").read_bytes()
    (folder / "images" / "s00.tif").write_bytes(whole[:4000])
    assert list(bring(store, folder)["scenes"]["refused"]) == ["s00"]
    assert len(store.list("sources")) == 1
    assert not [key for key in store.list("") if "s00" in key]
    (folder / "images" / "s00.tif").write_bytes(whole)
    assert bring(store, folder)["scenes"] == {"added": ["s00"], "present": ["s01"], "refused": {}}


def test_a_scene_reissued_under_its_old_id_is_another_content(make_folder: MakeFolder, store: Store) -> None:
    folder = make_folder(2)
    bring(store, folder)
    old = Scene.find(store, "s00")
    with rasterio.open(folder / "images" / "s00.tif", "r+") as dataset:
        dataset.write(water_scene(50)[0])
    assert bring(store, folder)["scenes"] == {"added": ["s00"], "present": ["s01"], "refused": {}}
    assert len(list_scenes(store)) == 3
    new = Scene.find(store, "s00")
    assert new.content != old.content
    with new.image(WATER.data) as image:
        assert np.array_equal(image.values(0, 0, 9, 9), water_scene(50)[0][[1, 2, 3, 7, 11, 12], :9, :9])


def test_a_label_that_came_later_is_added_to_its_scene(make_folder: MakeFolder, store: Store) -> None:
    folder = make_folder(1)
    label = (folder / "labels" / "s00.tif").rename(folder / "kept.tif")
    bring(store, folder)
    label.rename(folder / "labels" / "s00.tif")
    result = bring(store, folder)
    assert result["scenes"] == {"added": [], "present": ["s00"], "refused": {}}
    assert result["labels"]["added"] == ["s00"]


def test_the_fingerprint_is_what_the_source_offers(make_folder: MakeFolder) -> None:
    folder = make_folder(1)

    def fingerprint() -> str | None:
        (candidate,) = FolderSource(str(folder), WATER.data).candidates()
        return candidate.fingerprint

    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    os.utime(folder / "images" / "s00.tif", ns=(1, 1))
    seen.append(fingerprint())
    os.utime(folder / "labels" / "s00.tif", ns=(1, 1))
    seen.append(fingerprint())
    (folder / "labels" / "s00.tif").unlink()
    seen.append(fingerprint())
    for platform in ("sentinel-2a", "sentinel-2b"):
        (folder / "items").mkdir(exist_ok=True)
        (folder / "items" / "s00.json").write_text(f'{{"properties": {{"platform": "{platform}"}}}}')
        seen.append(fingerprint())
    assert len(set(seen)) == 6
    assert None not in seen


def test_a_killed_run_goes_on_where_it_was_ended(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(20)
    store = Store(str(tmp_path / "store"))
    call = "import sys; from eo_data.cli import main; sys.exit(main(sys.argv[1:]))"
    flags = ["ingest", "--usecase", WATER.source, "--store", store.uri, "--source", str(folder)]
    process = subprocess.Popen([sys.executable, "-c", call, *flags], stderr=subprocess.DEVNULL)
    while len(store.list("sources")) < 3 and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    marked = len(store.list("sources"))
    assert 3 <= marked < 20
    for scene in list_scenes(store):  # what can be seen is whole
        with scene.image(WATER.data) as image:
            image.read_all()
    resumed = bring(store, folder)
    assert len(resumed["scenes"]["present"]) >= marked
    assert len(resumed["scenes"]["added"]) + len(resumed["scenes"]["present"]) == 20
    straight = bring(Store(str(tmp_path / "straight")), folder)
    assert resumed["batch"].rpartition("/")[2] == straight["batch"].rpartition("/")[2]
    assert len(store.list("sources")) == 20


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize(
    ("holder", "name", "change", "said"),
    [
        (FolderSource, "fetch", Path.unlink, "no such file"),  # listed, then gone
        (ingest_module, "make_item", Path.unlink, "changed while they were read"),
        (ingest_module, "make_item", grow, "changed while they were read"),
        (ingest_module, "json_digest", Path.unlink, "no such file any more"),  # gone while it is stored
    ],
)
def test_a_file_that_changes_half_way_is_refused_with_its_pair(
    make_folder: MakeFolder,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    holder: Any,
    name: str,
    change: Callable[[Path], Any],
    said: str,
) -> None:
    folder = make_folder(2)
    changing = folder / kind / "s00.tif"
    original = getattr(holder, name)
    changed: list[Any] = []

    def meanwhile(*arguments: Any) -> Any:
        made = original(*arguments)
        if not changed:
            changed.append(change(changing))
        return made

    monkeypatch.setattr(holder, name, meanwhile)
    refused = bring(store, folder)["scenes"]["refused"]
    assert list(refused) == ["s00"]
    assert said in refused["s00"]
    assert f"{kind}/s00.tif" in refused["s00"] or "images/s00.tif" in refused["s00"]
    assert not list_scenes_of(store, "s00")


def list_scenes_of(store: Store, scene_id: str) -> list[str]:
    """What can be seen of a scene: readers look for records."""
    return [key for key in store.list("") if f"/{scene_id}/" in key and key.endswith(".json")]


def test_an_item_that_is_corrected_makes_another_content(make_folder: MakeFolder, store: Store) -> None:
    folder = make_folder(1)
    bring(store, folder)
    (folder / "items").mkdir(exist_ok=True)
    for taken in ("2024-06-30T10:10:10Z", "2024-07-30T10:10:10Z"):
        item = {"id": "s00", "properties": {"datetime": taken, "platform": "sentinel-2a"}}
        (folder / "items" / "s00.json").write_text(json.dumps(item))
        again = bring(store, folder)
        assert again["scenes"]["added"] == ["s00"]
        assert Scene.find(store, "s00").properties["datetime"] == taken
