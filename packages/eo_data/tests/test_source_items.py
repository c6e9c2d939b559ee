"""A source's own STAC items: an honest one adds to its scene, one that lies is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_data.ingest import ingest
from eo_data.scene import Scene
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS, write_tiff

WATER = UseCase.load(str(ROOT / "usecases" / "water"))
PIXELS = np.random.default_rng(0).integers(500, 3000, (13, 8, 8)).astype(np.uint16)


def image(root: Path, name: str, **how: Any) -> Path:
    return write_tiff(root / "images" / f"{name}.tif", PIXELS, names=S2_BANDS, **how)


def bring(root: Path, tmp_path: Path) -> dict[str, Any]:
    scenes: dict[str, Any] = ingest(Store(str(tmp_path / "store")), WATER, str(root), progress=False)["scenes"]
    return scenes


def with_item(root: Path, item: bytes | dict[str, Any]) -> None:
    image(root, "good")
    image(root, "told")
    (root / "items").mkdir()
    (root / "items" / "told.json").write_bytes(item if isinstance(item, bytes) else json.dumps(item).encode())


def bands(*names: Any) -> dict[str, Any]:
    return {"assets": {"image": {"bands": [{"name": name} for name in names]}}}


def with_image(**fields: Any) -> dict[str, Any]:
    return {"assets": {"image": fields}}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b'{"id": NaN}', "no JSON"),
        (b'{"id": 1e999}', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"null", "must be an object"),
        (b"[]", "must be an object"),
        ({"id": "another"}, "that of 'another'"),
        ({"id": 5}, "id"),
        ({"collection": "my collection"}, "'my collection' is no collection"),
        ({"collection": "../up"}, "is no collection"),
        ({"collection": ["a"]}, "collection"),
        ({"properties": None}, "properties: it must be an object"),
        ({"properties": {"datetime": "yesterday"}}, "properties.datetime"),
        ({"properties": {"datetime": 20200101}}, "properties.datetime"),
        ({"properties": {"terraloop:place": 5}}, "terraloop:place"),
        ({"properties": {"terraloop:place": ""}}, "terraloop:place"),
        ({"properties": {"terraloop:simulated": "no"}}, "terraloop:simulated"),
        ({"assets": []}, "assets: it must be an object"),
        ({"assets": {"image": "image.tif"}}, "assets.image: it must be an object"),
        (with_image(bands=13), "assets.image.bands: it must be a list"),
        (with_image(bands=["B01"] * 13), "assets.image.bands.0: it must be an object"),
        (bands(*range(13)), "assets.image.bands.0.name"),
        (bands("B02"), "names 1 bands, the raster has 13"),
        (bands(*S2_BANDS, "B13"), "names 14 bands, the raster has 13"),
        (bands("B02", "B01", *S2_BANDS[2:]), "calls band 1 'B02', the raster calls band 2 so"),
        (with_image(**{"raster:scale": "much"}), "raster:scale"),
        (with_image(**{"raster:scale": 0}), "scale 0"),
        (with_image(**{"raster:scale": -1}), "scale -1"),
        (with_image(**{"raster:offset": [1]}), "raster:offset"),
        (with_image(**{"raster:bands": [{"scale": 0.0001}] * 3}), "3"),
    ],
)
def test_an_item_that_lies_is_refused_by_name_and_the_rest_goes_on(
    tmp_path: Path, item: bytes | dict[str, Any], said: str
) -> None:
    root = tmp_path / "source"
    with_item(root, item)
    scenes = bring(root, tmp_path)
    assert scenes["added"] == ["good"]
    assert list(scenes["refused"]) == ["told"]
    assert said in scenes["refused"]["told"]


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"type": "Feature", "id": "told", "properties": {"datetime": None}, "assets": {"thumbnail": {"href": "x.png"}}},
        {"properties": {"datetime": "2020-02-03T04:05:06.789+01:00", "unknown": [1]}, "extra": {}},
        bands(*S2_BANDS),
        bands("coastal", "blue", "green", *["other"] * 10),
        bands(*[None] * 13),
        with_image(bands=None),
        with_image(**{"raster:scale": 0.0001, "raster:offset": -0.1}),
    ],
)
def test_an_honest_item_is_taken(tmp_path: Path, item: dict[str, Any]) -> None:
    root = tmp_path / "source"
    with_item(root, item)
    scenes = bring(root, tmp_path)
    assert scenes["added"] == ["good", "told"]


def test_what_says_how_values_were_processed_is_kept_and_makes_another_content(tmp_path: Path) -> None:
    root, store = tmp_path / "source", Store(str(tmp_path / "store"))
    image(root, "told")
    (root / "items").mkdir()
    said: dict[str, Any] = {"s2:processing_baseline": "05.00", "processing:level": "L2A"}
    contents = set()
    for flag in ({}, {"earthsearch:boa_offset_applied": True}, {"earthsearch:boa_offset_applied": False}):
        (root / "items" / "told.json").write_text(json.dumps({"properties": {**said, **flag, "else": 1}}))
        assert ingest(store, WATER, str(root), progress=False)["scenes"]["added"] == ["told"]
        scene = Scene.find(store, "told")
        assert {**said, **flag}.items() <= scene.properties.items()
        assert "else" not in scene.properties
        contents.add(scene.content)
    assert len(contents) == 3
