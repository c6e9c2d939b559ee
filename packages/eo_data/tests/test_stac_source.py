"""STAC on disk and over HTTP: which items and assets are taken, what is made of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp

from eo_data.errors import DataRefused, UsageError
from eo_data.radiometry import choose_radiometry
from eo_data.reflectance import Reflectance
from eo_data.sources.band_files import BandFile
from eo_data.sources.stac import StacSource
from eo_data.sources.stac_assets import choose_assets
from eo_data.usecase import DataSection, UseCase

from .conftest import ROOT
from .range_server import RangeServer
from .sentinel2_files import COMMON, band_pixels, scene_item, write_scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static catalog: two collections below its root, items beside the rasters of one of them."""
    root = tmp_path_factory.mktemp("catalog")
    scene = write_scene(root / "s2" / "scene")
    items = [
        scene_item("july"),
        scene_item("may", properties={**scene_item()["properties"], "datetime": "2024-05-01T10:00:00Z"}),
        scene_item("away", bbox=[-60.0, -10.0, -59.0, -9.0]),
    ]
    for item in items:
        (scene / f"{item['id']}.json").write_text(json.dumps(item))
    head = {"stac_version": "1.0.0", "description": "for tests"}
    links = [{"rel": "item", "href": f"./scene/{item['id']}.json"} for item in items]
    links += [{"rel": "root", "href": "../catalog.json"}, {"rel": "child", "href": "../catalog.json"}]
    (root / "s2" / "collection.json").write_text(
        json.dumps({**head, "type": "Collection", "id": "s2", "license": "other", "links": links})
    )
    links = [{"rel": "child", "href": "./s2/collection.json"}, {"rel": "self", "href": "https://elsewhere/x.json"}]
    (root / "catalog.json").write_text(json.dumps({**head, "type": "Catalog", "id": "root", "links": links}))
    return root


@pytest.fixture
def server(folder: Path) -> Iterator[RangeServer]:
    with RangeServer(folder) as running:
        yield running


@pytest.fixture
def l2a() -> DataSection:
    return UseCase.load(str(ROOT / "usecases" / "water-l2a")).data


def write_json(path: Path, document: Any) -> str:
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize("over", ["disk", "http"])
def test_a_static_catalog_is_walked_and_its_scenes_are_composed(
    folder: Path, server: RangeServer, l2a: DataSection, tmp_path: Path, over: str
) -> None:
    root = str(folder) if over == "disk" else f"{server.url}/catalog.json"
    source = StacSource(root, l2a)
    candidates = source.candidates()
    assert [candidate.id for candidate in candidates] == ["away", "july", "may"]
    july = candidates[1]
    assert (july.collection, july.fault) == ("sentinel-2-c1-l2a", None)
    assert july.where.endswith("/s2/scene/july.json")
    fetched = source.fetch(july, tmp_path)
    assert fetched.label is None
    with rasterio.open(fetched.image) as dataset:
        assert dataset.descriptions == (*COMMON, "SCL")
        assert dataset.crs.to_epsg() == 32632  # the rasters', whatever the item's geometry says
        for number, name in enumerate(("B02", "B03", "B04", "B08"), start=1):
            np.testing.assert_array_equal(dataset.read(number), band_pixels(name))
    item = fetched.item
    assert item is not None
    bands = item["assets"]["image"]["bands"]
    assert [band["name"] for band in bands] == [*COMMON, "SCL"]
    assert bands[0] == {
        "name": "B02", "eo:common_name": "blue", "raster:scale": 0.0001, "raster:offset": -0.1
    }  # fmt: skip
    assert item["properties"]["earthsearch:boa_offset_applied"] is False
    assert item["properties"]["s2:processing_baseline"] == "05.10"
    assert "proj:epsg" not in item["properties"]
    rule = choose_radiometry(Reflectance(), asset={**item["assets"]["image"], "bands": bands[:6]})
    assert (rule.scale, rule.offset, rule.source) == (0.0001, -0.1, "stac")
    if over == "http":  # nothing but what is needed was asked for
        assert not {path for _, path in server.requests} & {"/s2/scene/thumbnail.jpg", "/s2/scene/TCI.tif"}


def test_area_time_collections_and_limit_choose_among_the_items(folder: Path, l2a: DataSection) -> None:
    def ids(**search: Any) -> list[str]:
        return [candidate.id for candidate in StacSource(str(folder), l2a, **search).candidates()]

    assert ids(bbox=(10.3, 45.9, 10.4, 46.0)) == ["july", "may"]
    assert ids(datetime="2024-07") == ["away", "july"]
    assert ids(datetime="../2024-05-31") == ["may"]
    assert ids(bbox=(10.3, 45.9, 10.4, 46.0), datetime="2024-06-15/..") == ["july"]
    assert ids(limit=2) == ["july", "may"]
    with pytest.raises(DataRefused, match=r"no scene is found \(collections landsat\)"):
        ids(collections=("landsat",))
    with pytest.raises(DataRefused, match=r"no scene is found \(bbox 0 0 1 1; datetime 2020-01-01T00:00:00Z/"):
        ids(bbox=(0, 0, 1, 1), datetime="2020")
    for impossible in ({"bbox": (5, 3, 6, 2)}, {"datetime": "last week"}, {"limit": 0}):
        with pytest.raises(UsageError, match=r"no (area|time|limit)"):
            ids(**impossible)


def test_the_fingerprint_tells_what_would_be_composed(folder: Path, l2a: DataSection) -> None:
    def fingerprint(data: DataSection = l2a, **search: Any) -> str | None:
        return next(one for one in StacSource(str(folder), data, **search).candidates() if one.id == "july").fingerprint

    first = fingerprint()
    assert first == fingerprint()
    assert first == fingerprint(datetime="2024-07")  # how it was found is not what it is
    other = l2a.model_copy(update={"grid": l2a.grid.model_copy(update={"resolution": 20.0})})
    assert len({first, fingerprint(other), fingerprint(bbox=(10.3, 45.9, 10.4, 46.0))}) == 3


def test_an_area_cuts_the_scene_too(folder: Path, l2a: DataSection, tmp_path: Path) -> None:
    x, y = rasterio.warp.transform("EPSG:32632", "EPSG:4326", [603_000, 604_000], [5_094_000, 5_095_000])
    source = StacSource(str(folder), l2a, bbox=(x[0], y[0], x[1], y[1]), datetime="2024-07")
    fetched = source.fetch(next(one for one in source.candidates() if one.id == "july"), tmp_path)
    with rasterio.open(fetched.image) as dataset:
        assert 100 <= dataset.width < 110
        assert 100 <= dataset.height < 110


def test_items_with_a_fault_bear_it_and_the_others_go_on(folder: Path, l2a: DataSection, tmp_path: Path) -> None:
    good = scene_item("good")
    for asset in good["assets"].values():
        asset["href"] = str(folder / "s2" / "scene" / asset["href"].removeprefix("./"))
    without_blue = {key: asset for key, asset in good["assets"].items() if not key.startswith("blue")}
    timeless = {key: value for key, value in good["properties"].items() if key != "datetime"}
    faults = {
        "no-assets": scene_item("no-assets", assets={}),
        "old": scene_item("old", stac_version="0.7.0"),
        "timeless": scene_item("timeless", properties=timeless),
        "badtime": scene_item("badtime", properties={**timeless, "datetime": "yesterday"}),
        "bandless": scene_item("bandless", assets=without_blue),
        "catalog": {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": [], "description": "-"},
    }
    links = [{"rel": "item", "href": f"{name}.json"} for name in (*faults, "good", "gone")]
    for name, document in {**faults, "good": good}.items():
        write_json(tmp_path / f"{name}.json", document)
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "-", "links": links}
    source = StacSource(write_json(tmp_path / "root.json", root), l2a)
    told = {candidate.id: candidate.fault and str(candidate.fault) for candidate in source.candidates()}
    assert told.pop("good") is None
    for name, words in {
        "no-assets": "the item has no assets",
        "old": "of STAC 0.7.0, which is older than 0.8. Bring it to STAC 1.0",
        "timeless": "neither datetime nor start_datetime",
        "badtime": "datetime 'yesterday' is no RFC 3339 time",
        "bandless": "band B02 is missing (the item's assets: green",
        "catalog": "a Catalog stands where an item should",
        "gone": "the document cannot be read",
    }.items():
        said = str(told.pop(name))
        assert words in said
        assert f"{name}.json" in said
    assert not told


def test_items_of_one_id_are_not_chosen_between(folder: Path, l2a: DataSection, tmp_path: Path) -> None:
    both = {"type": "FeatureCollection", "features": [scene_item("a"), scene_item("a", collection="other")]}
    (candidate,) = StacSource(write_json(tmp_path / "items.json", both), l2a).candidates()
    assert "this id stands for" in str(candidate.fault)


def test_an_item_of_the_network_may_not_name_local_files(server: RangeServer, l2a: DataSection) -> None:
    item = scene_item("a")
    item["assets"]["blue"]["href"] = "file:///etc/passwd"
    server.answers["/a.json"] = lambda *_: item
    (candidate,) = StacSource(f"{server.url}/a.json", l2a).candidates()
    assert "names a local file" in str(candidate.fault)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("<!doctype html><title>404</title>", "an HTML page"),
        ("{", "this is no JSON"),
        ("[]", "no JSON object"),
        ('{"a": 1}', "this is no STAC document"),
    ],
)
def test_what_is_no_stac_document_is_refused(l2a: DataSection, tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "catalog.json").write_text(content)
    with pytest.raises(DataRefused, match=told):
        StacSource(str(tmp_path), l2a).candidates()
    with pytest.raises(UsageError, match="no such STAC document"):
        StacSource(str(tmp_path / "other.json"), l2a).candidates()


def test_one_asset_with_several_bands_works_too(folder: Path, l2a: DataSection, tmp_path: Path) -> None:
    with rasterio.open(folder / "s2" / "scene" / "B02.tif") as source:
        profile = {**source.profile, "driver": "GTiff", "count": 3}
    with rasterio.open(tmp_path / "analytic.tif", "w", **profile) as target:
        for number, name in enumerate(("B08", "B02", "B03"), start=1):
            target.write(band_pixels(name), number)
    common = {"raster:scale": 0.0001, "raster:offset": 0}
    bands = [{"name": f"band{n}", "eo:common_name": name} for n, name in enumerate(("nir", "blue", "green"))]
    assets = {"analytic": {"href": "analytic.tif", "type": "image/tiff; application=geotiff", "bands": bands, **common}}
    uri = write_json(tmp_path / "item.json", scene_item("a", stac_version="1.1.0", assets=assets))
    source = StacSource(uri, l2a.model_copy(update={"inputs": ("B02", "B08")}))
    fetched = source.fetch(source.candidates()[0], tmp_path)
    with rasterio.open(fetched.image) as dataset:
        assert dataset.descriptions == ("B02", "B03", "B08")
        np.testing.assert_array_equal(dataset.read(3), band_pixels("B08"))
    assert fetched.item is not None
    assert fetched.item["assets"]["image"]["bands"][1]["raster:offset"] == 0


def chosen(path: Path, data: DataSection) -> dict[str, BandFile]:
    (candidate,) = StacSource(str(path), data).candidates()
    assert candidate.fault is None
    assert candidate.item is not None
    return {one.band.name: one.file for one in choose_assets(candidate.item, data, "item")}


def test_the_right_assets_of_real_items_are_taken(test_data: Path, l2a: DataSection) -> None:
    items = test_data / "stac-items"
    found = chosen(
        items / "stactools-sentinel2" / "esa_S2B_MSIL2A_20210122T133229_N0214_R081_T22HBD_20210122T155500.json", l2a
    )
    assert {name: Path(file.href).stem[-7:] for name, file in found.items()} == {  # the finest of each
        "B01": "B01_60m", "B02": "B02_10m", "B03": "B03_10m", "B04": "B04_10m", "B05": "B05_20m", "B06": "B06_20m",
        "B07": "B07_20m", "B08": "B08_10m", "B8A": "B8A_20m", "B09": "B09_60m", "B11": "B11_20m", "B12": "B12_20m",
        "SCL": "SCL_20m",
    }  # fmt: skip
    assert found["B02"].href.startswith(str(items.resolve() / "stactools-sentinel2" / "GRANULE"))
    scene = test_data / "scenes" / "sentinel-2-l2a-cogs" / "S2A_29RKH_20200219_0_L2A"
    found = chosen(scene / "S2A_29RKH_20200219_0_L2A.json", l2a)
    assert len(found) == 13
    assert {name: Path(file.href).name for name, file in found.items()} == {name: f"{name}.tif" for name in found}
    for path in sorted(items.rglob("*.json")):
        (candidate,) = StacSource(str(path), l2a).candidates()
        assert (candidate.fault is None) == ("stac-spec" not in path.parts), path  # those are of another sensor
    (candidate,) = StacSource(str(next((test_data / "scenes" / "landsat-c2-l2").rglob("*stac.json"))), l2a).candidates()
    assert "STAC 0.7.0" in str(candidate.fault)


def test_the_real_scene_is_composed_from_its_own_item(test_data: Path, l2a: DataSection, tmp_path: Path) -> None:
    """Its hrefs are those of the public bucket: they are rewritten to a server that has the files."""
    folder = test_data / "scenes" / "sentinel-2-l2a-cogs" / "S2A_29RKH_20200219_0_L2A"
    with RangeServer(folder) as server:
        item = json.loads((folder / f"{folder.name}.json").read_text())
        for asset in item["assets"].values():
            asset["href"] = f"{server.url}/{asset['href'].rpartition('/')[2]}"
        missing = {key for key, asset in item["assets"].items() if not (folder / Path(asset["href"]).name).is_file()}
        item["assets"] = {key: asset for key, asset in item["assets"].items() if key not in missing}
        server.answers["/item.json"] = lambda *_: item
        grid = l2a.grid.model_copy(update={"resolution": None})
        data = l2a.model_copy(update={"inputs": ("B02", "B03", "B04", "B11", "B12"), "grid": grid})
        source = StacSource(f"{server.url}/item.json", data)
        fetched = source.fetch(source.candidates()[0], tmp_path)
    with rasterio.open(fetched.image) as dataset, rasterio.open(folder / "B04.tif") as red:
        assert dataset.descriptions == ("B01", "B02", "B03", "B04", "B8A", "B11", "B12", "SCL")
        assert (dataset.bounds, dataset.crs, dataset.nodata) == (red.bounds, red.crs, 0)
        np.testing.assert_array_equal(dataset.read(4), red.read(1))
    assert fetched.item is not None
    assert fetched.item["properties"]["s2:processing_baseline"] == "02.14"
