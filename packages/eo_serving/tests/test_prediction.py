"""`predict`: mask, item and quicklook of a scene, from the store and from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pystac
import pytest
from PIL import Image

from eo_data.digests import mask_digest
from eo_data.errors import DataRefused, UsageError
from eo_data.ingest import ingest
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_serving.invocation import Invocation, answer
from eo_serving.prediction import predict
from eo_serving.service import open_service

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
RESULT_KEYS = {"mask", "item", "quicklook", "mask_digest", "radiometry", "model", "digest"}


@pytest.fixture
def world(registry: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking)
    return registry


@pytest.fixture
def image(tmp_path: Path, tiff: Any) -> Path:
    pixels = np.random.default_rng(4).integers(1, 6000, (13, 150, 210)).astype(np.uint16)
    pixels[:, :20] = 0
    path = tmp_path / "pairs" / "images" / "lake.tif"
    path.parent.mkdir(parents=True)
    path.write_bytes(tiff(pixels, names=S2, nodata=0))
    return path


def path_of(uri: str) -> Path:
    return Path(urlsplit(uri).path)


def test_a_file_gives_what_the_endpoint_gives(
    world: Any, water: UseCase, image: Path, tmp_path: Path, decode: Any
) -> None:
    result = predict(water, world.store, str(image), str(tmp_path / "out"), None)
    assert set(result) == RESULT_KEYS
    assert (result["model"], result["digest"]) == ("water/2", world.versions[2].digest)
    written = path_of(result["mask"]).read_bytes()
    asked = answer(Invocation("image/tiff", None, "", image.read_bytes()), open_service(world.versions[2], water))
    assert written == asked.body
    mask = decode(written)
    assert mask.grid == decode(image.read_bytes()).grid
    assert result["mask_digest"] == mask_digest(mask.pixels[0])
    assert set(np.unique(mask.pixels)) == {0, 1, 255}
    with Image.open(path_of(result["quicklook"])) as picture:
        assert picture.size[1] > 150  # and a legend


def test_the_item_is_valid_and_says_where_the_mask_comes_from(
    world: Any, water: UseCase, image: Path, tmp_path: Path
) -> None:
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    result = predict(water, world.store, image.as_uri(), str(tmp_path / "out"), "models:/water/1")
    item = pystac.Item.from_file(str(path_of(result["item"])))
    core = JsonSchemaSTACValidator().validate_core(item.to_dict(), pystac.STACObjectType.ITEM, "1.1.0")
    assert core is not None
    assert item.id == "lake"
    assert item.properties["terraloop:model"] == "water/1"
    assert item.properties["terraloop:mask_digest"] == result["mask_digest"]
    assert item.properties["proj:code"] == "EPSG:32630"
    assert [link.get_href() for link in item.get_links("derived_from")] == [image.as_uri()]
    assert item.assets["mask"].get_absolute_href() == str(path_of(result["mask"]))
    classes = item.assets["mask"].extra_fields["classification:classes"]
    assert [(c["value"], c["name"]) for c in classes] == [(0, "land"), (1, "water")]
    west, south, east, north = item.bbox or []
    assert (-3.1 < west < east < -2.9, 37.8 < south < north < 38) == (True, True)


def test_a_scene_of_the_store_by_id_and_uri(world: Any, water: UseCase, image: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    batch = ingest(store, water, str(tmp_path / "pairs"), progress=False)
    assert batch["scenes"]["added"] == ["lake"]
    by_id = predict(water, store, "lake", None, "models:/water/1")
    folder = by_id["mask"].removeprefix(f"{store.uri}/").split("/")
    assert (folder[0], folder[1].rsplit("-", 1)[0], folder[2:]) == (
        "predictions",
        "lake",
        [world.versions[1].digest, "mask.tif"],
    )
    item = json.loads(path_of(by_id["item"]).read_bytes())
    scene_uri = item["links"][0]["href"]
    assert path_of(scene_uri).is_file()
    before = path_of(by_id["item"]).stat().st_mtime_ns
    assert predict(water, store, scene_uri, None, "models:/water/1") == by_id  # there already
    assert path_of(by_id["item"]).stat().st_mtime_ns == before
    from_file = predict(water, world.store, str(image), str(tmp_path / "out"), "models:/water/1")
    assert from_file["mask_digest"] == by_id["mask_digest"]


def test_without_crs_the_item_has_no_place(world: Any, water: UseCase, tiff: Any, tmp_path: Path, decode: Any) -> None:
    path = tmp_path / "bare.tif"
    path.write_bytes(tiff(np.full((13, 9, 9), 500, np.uint16), crs=None, transform=None, names=S2))
    result = predict(water, world.store, str(path), str(tmp_path / "out"), None)
    item = json.loads(path_of(result["item"]).read_bytes())
    assert item["geometry"] is None
    assert "bbox" not in item
    assert decode(path_of(result["mask"]).read_bytes()).crs is None


def test_what_was_left_by_a_killed_call_is_completed(world: Any, water: UseCase, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = predict(water, world.store, str(image), str(out), None)
    (out / "item.json").unlink()
    (out / "quicklook.png").unlink()
    assert predict(water, world.store, str(image), str(out), None) == whole
    assert sorted(p.name for p in out.iterdir()) == ["item.json", "mask.tif", "quicklook.png"]


def test_another_prediction_is_not_overwritten(world: Any, water: UseCase, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(water, world.store, str(image), str(out), "models:/water/1")
    before = (out / "mask.tif").read_bytes()
    with pytest.raises(UsageError, match="another prediction"):
        predict(water, world.store, str(image), str(out), "models:/water/2")
    (out / "item.json").unlink()
    with pytest.raises(UsageError, match="something else"):
        predict(water, world.store, str(image), str(out), "models:/water/2")
    assert (out / "mask.tif").read_bytes() == before


def test_refusals_leave_nothing(world: Any, water: UseCase, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"<html></html>")
    out = tmp_path / "out"
    with pytest.raises(DataRefused, match="no GeoTIFF"):
        predict(water, world.store, str(bad), str(out), None)
    with pytest.raises(DataRefused, match="no such file"):
        predict(water, world.store, str(tmp_path / "none.tif"), str(out), None)
    with pytest.raises(DataRefused, match="no scene of this id"):
        predict(water, world.store, "nobody", str(out), None)
    with pytest.raises(DataRefused, match="golden chip"):
        predict(water, world.store, str(bad), str(out), "models:/water/4")
    assert not out.exists() or not list(out.iterdir())
