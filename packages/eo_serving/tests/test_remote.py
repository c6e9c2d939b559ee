"""Rasters that a request names: what is read, on which grid, and what nobody is led to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from eo_data.errors import DataRefused, TemporaryFailure, TerraloopError, UsageError
from eo_data.usecase import UseCase
from eo_serving.configuration import Limits, Remote, ServeSection
from eo_serving.invocation import Invocation, answer
from eo_serving.problem import OutOfTime, TooLarge
from eo_serving.remote_reading import AsSent, as_sent
from eo_serving.remote_rules import is_public
from eo_serving.service import Service

from .scene_server import SceneServer

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SIDE = 1024
UTM = Affine(10, 0, 500_000, 0, -10, 4_200_000)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint16]:
    values = np.random.default_rng(5).integers(1, 6000, (13, SIDE, SIDE)).astype(np.uint16)
    values[:, :, :30] = 0
    return values


@pytest.fixture(scope="module")
def scenes(scene_server: SceneServer, pixels: NDArray[np.uint16], tiff: Any) -> SceneServer:
    server = scene_server
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    server.files["/scenes/whole.tif"] = tiff(pixels, names=S2, nodata=0, interleave="band", **tiles)
    server.files["/scenes/tagged.tif"] = tiff(pixels[:, :64, :64], names=S2, nodata=0, scale=(0.0001, -0.1))
    server.files["/scenes/nowhere.tif"] = tiff(pixels[:, :64, :64], names=S2, crs=None, transform=None)
    server.files["/scenes/page.tif"] = b"<!doctype html><p>log in"
    server.files["/scenes/cut-off.tif"] = server.files["/scenes/whole.tif"][:100_000]
    server.files["/scenes/other.tif"] = b'<VRTDataset rasterXSize="1" rasterYSize="1"/>'
    for number, name in enumerate(S2):
        band = pixels[number : number + 1, :200, :200]
        coarse = name in {"B11", "B12"}
        server.files[f"/scenes/{name}.tif"] = tiff(
            band[:, ::2, ::2] if coarse else band, nodata=0, transform=UTM @ Affine.scale(2) if coarse else UTM
        )
    server.files["/private/scene.tif"] = server.files["/scenes/tagged.tif"]
    return server


def rules(scenes: SceneServer, limits: Limits | None = None, **changed: Any) -> ServeSection:
    said = {"prefixes": (f"{scenes.url}/scenes/",), "private": True, **changed}
    return ServeSection(remote=Remote(**said), limits=limits or Limits())


def fetched(
    usecase: UseCase,
    serve: ServeSection,
    document: Any,
    kind: str = "application/json",
    query: str = "",
    left: float = 120.0,
) -> AsSent:
    body = json.dumps(document).encode()
    found = asyncio.run(as_sent({"content-type": kind}, body, query, usecase.data, serve, left))
    assert found is not None
    return found


def answered(service: Service, sent: AsSent, accept: str | None = "image/tiff") -> Any:
    item = sent.headers.get("terraloop-item")
    return answer(Invocation(sent.headers["content-type"], accept, sent.query, sent.body, item), service)


def stac_item(url: str, **values: Any) -> dict[str, Any]:
    assets = {
        name: {"href": f"{url}/scenes/{name}.tif", "type": "image/tiff; application=geotiff", **values} for name in S2
    }
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": "one", "collection": "made-up", "geometry": None,
        "properties": {"datetime": "2026-06-01T10:00:00Z"}, "links": [], "assets": assets,
    }  # fmt: skip


BOX = (501_005.0, 4_198_000.0, 502_300.0, 4_199_395.0)
ROWS, COLUMNS = slice(60, 200), slice(100, 230)
"""The whole pixels that the box touches."""


def test_a_box_is_answered_on_the_pixels_that_it_touches(
    water: UseCase, service: Service, scenes: SceneServer, pixels: NDArray[np.uint16], tiff: Any, decode: Any
) -> None:
    sent = fetched(water, rules(scenes), {"href": f"{scenes.url}/scenes/whole.tif", "bbox": BOX, "crs": "EPSG:32630"})
    transform = UTM @ Affine.translation(COLUMNS.start, ROWS.start)
    body = tiff(pixels[:, ROWS, COLUMNS], names=S2, nodata=0, transform=transform)
    apart, here = answered(service, sent), answer(Invocation("image/tiff", None, "", body), service)
    assert decode(apart.body).grid == decode(body).grid
    assert apart.body == here.body
    assert set(np.unique(decode(apart.body).pixels)) >= {0, 1}


def test_a_box_in_degrees(
    water: UseCase, service: Service, scenes: SceneServer, pixels: NDArray[np.uint16], decode: Any
) -> None:
    from pyproj import Transformer

    to_degrees = Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True)
    west, south = to_degrees.transform(500_402, 4_199_202)
    east, north = to_degrees.transform(500_498, 4_199_298)
    for crs in ({}, {"crs": "EPSG:4326"}, {"crs": "OGC:CRS84"}):
        href = f"{scenes.url}/scenes/whole.tif"
        sent = fetched(water, rules(scenes), {"href": href, "bbox": [west, south, east, north], **crs})
        raster = decode(sent.body)
        assert (raster.transform.c, raster.transform.f, raster.pixels.shape[1:]) == (500_400, 4_199_300, (10, 10))
        np.testing.assert_array_equal(raster.pixels, pixels[:, 70:80, 40:50])


def test_only_what_is_needed_is_read(water: UseCase, scenes: SceneServer) -> None:
    before = scenes.sent
    href = f"{scenes.url}/scenes/whole.tif"
    fetched(water, rules(scenes), {"href": href, "bbox": [504_000, 4_195_000, 504_500, 4_195_500], "crs": "EPSG:32630"})
    assert 0 < scenes.sent - before < len(scenes.files["/scenes/whole.tif"]) / 6


def test_a_whole_file_keeps_what_it_says_of_itself(
    water: UseCase, service: Service, scenes: SceneServer, decode: Any
) -> None:
    sent = fetched(water, rules(scenes), {"href": f"{scenes.url}/scenes/tagged.tif"})
    plain = answer(Invocation("image/tiff", None, "", scenes.files["/scenes/tagged.tif"]), service)
    assert answered(service, sent).body == plain.body
    assert plain.headers["Terraloop-Radiometry"].endswith("(gdal)")
    nowhere = fetched(water, rules(scenes), {"href": f"{scenes.url}/scenes/nowhere.tif"})
    assert decode(answered(service, nowhere).body).crs is None


def test_who_sends_json_gets_json(water: UseCase, service: Service, scenes: SceneServer) -> None:
    sent = fetched(water, rules(scenes), {"href": f"{scenes.url}/scenes/tagged.tif"})
    document = json.loads(answered(service, sent, sent.headers["accept"]).body)
    assert document["classes"]


def test_bands_of_an_item_are_joined_as_ingest_does(
    water: UseCase, service: Service, scenes: SceneServer, pixels: NDArray[np.uint16], decode: Any
) -> None:
    sent = fetched(water, rules(scenes), stac_item(scenes.url), "application/geo+json")
    raster, mask = decode(sent.body), decode(answered(service, sent).body)
    assert raster.descriptions == S2
    np.testing.assert_array_equal(raster.pixels[:11], pixels[:11, :200, :200])
    green, nir = (pixels[n, :200, :200].astype(np.float64) for n in (2, 7))
    seen = (pixels[:, :200, :200] > 0).all(axis=0) & (raster.pixels > 0).all(axis=0)
    np.testing.assert_array_equal(mask.pixels[0][seen], (green > nir)[seen].astype(np.uint8))
    assert mask.grid == ("EPSG:32630", UTM, (200, 200))


def test_an_items_radiometry_counts_and_its_box_cuts(
    water: UseCase, service: Service, scenes: SceneServer, decode: Any
) -> None:
    from pyproj import Transformer

    item = stac_item(scenes.url, **{"raster:scale": 0.0001, "raster:offset": -0.1})
    to_degrees = Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True)
    box = (*to_degrees.transform(500_802, 4_199_002), *to_degrees.transform(500_998, 4_199_198))
    query = "bbox=" + ",".join(map(str, box))
    sent = fetched(water, rules(scenes), item, "application/geo+json", query)
    result = answered(service, sent)
    assert result.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=-0.1 (stac)"
    assert decode(result.body).grid == ("EPSG:32630", UTM @ Affine.translation(80, 80), (20, 20))


HREFS = {
    "another server": "http://127.0.0.2:1/scenes/x.tif",
    "another port": "http://127.0.0.1:1/scenes/x.tif",
    "another path": "{url}/private/scene.tif",
    "up and down": "{url}/scenes/../private/scene.tif",
    "up and down, encoded": "{url}/scenes/%2e%2e/private/scene.tif",
    "a slash, encoded": "{url}/scenes/..%2fprivate/scene.tif",
    "a backslash": "{url}/scenes/..\\private/scene.tif",
    "a user": "{scheme}://u:p@{netloc}/scenes/whole.tif",
    "the prefix as a user": "{url}/scenes/@169.254.169.254/latest",
    "the prefix's server as a user": "{scheme}://{netloc}@169.254.169.254/scenes/x.tif",
    "a file": "file:///etc/passwd",
    "a path": "/etc/passwd",
    "GDAL's own": "/vsicurl/{url}/scenes/whole.tif",
    "GDAL's own, chained": "/vsizip//vsicurl/{url}/scenes/whole.tif",
    "a bucket": "s3://scenes/whole.tif",
    "another scheme": "ftp://127.0.0.1/scenes/x.tif",
    "a new line": "{url}/scenes/whole.tif\r\nX: y",
    "a fragment": "{url}/scenes/whole.tif#x",
    "a bracket": "http://[::1/scenes/x.tif",
}


@pytest.mark.parametrize("name", HREFS)
def test_what_is_not_listed_is_not_opened(water: UseCase, scenes: SceneServer, name: str) -> None:
    scheme, netloc = scenes.url.split("://")
    href = HREFS[name].format(url=scenes.url, scheme=scheme, netloc=netloc)
    if "@169" in href and "/scenes/@" in href:  # below the prefix, and only its server is asked
        with pytest.raises(DataRefused, match="no such file"):
            fetched(water, rules(scenes), {"href": href})
        return
    asked = len(scenes.paths)
    with pytest.raises(DataRefused, match="none that the endpoint reads"):
        fetched(water, rules(scenes), {"href": href})
    assert len(scenes.paths) == asked
    item = stac_item(scenes.url)
    item["assets"]["B03"]["href"] = href
    with pytest.raises(DataRefused, match=r"none that the endpoint reads|is missing"):
        fetched(water, rules(scenes), item, "application/geo+json")
    assert len(scenes.paths) == asked


def test_nothing_is_read_unless_it_is_listed(water: UseCase, scenes: SceneServer) -> None:
    with pytest.raises(DataRefused, match="reads no addresses"):
        fetched(water, ServeSection(), {"href": f"{scenes.url}/scenes/whole.tif"})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_private_address_is_not_asked(water: UseCase, scenes: SceneServer, host: str) -> None:
    url, asked = scenes.url.replace("127.0.0.1", host), len(scenes.paths)
    with pytest.raises(DataRefused, match="private network"):
        fetched(water, rules(scenes, prefixes=(f"{url}/scenes/",), private=False), {"href": f"{url}/scenes/whole.tif"})
    assert len(scenes.paths) == asked


@pytest.mark.parametrize("target", ["{url}/private/scene.tif", "http://169.254.169.254/latest/", "file:///etc/passwd"])
def test_a_redirect_leads_nowhere_else(water: UseCase, scenes: SceneServer, target: str) -> None:
    listed = rules(scenes, prefixes=(f"{scenes.url}/scenes/", f"{scenes.url}/to/"))
    asked = len(scenes.paths)
    # GDAL itself follows no redirect to a file.
    refusal, says = (TemporaryFailure, "brought") if target.startswith("file") else (DataRefused, "not listed")
    with pytest.raises(refusal, match=says):
        fetched(water, listed, {"href": f"{scenes.url}/to/x.tif?{target.format(url=scenes.url)}"})
    assert {path.split("?")[0] for path in scenes.paths[asked:]} == {"/to/x.tif"}
    sent = fetched(water, listed, {"href": f"{scenes.url}/to/x.tif?{scenes.url}/scenes/tagged.tif"})
    assert len(sent.body) > 1000


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("/scenes/none.tif", DataRefused, "no such file"),
        ("/scenes/page.tif", DataRefused, "HTML page"),
        ("/scenes/other.tif", DataRefused, "neither a GeoTIFF"),
        ("/scenes/cut-off.tif", DataRefused, "truncated or damaged"),
    ],
)
def test_what_cannot_be_used(water: UseCase, scenes: SceneServer, path: str, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        fetched(water, rules(scenes), {"href": scenes.url + path})


def test_limits(water: UseCase, scenes: SceneServer) -> None:
    whole = {"href": f"{scenes.url}/scenes/whole.tif"}
    with pytest.raises(TooLarge, match="pixels are more"):
        fetched(water, rules(scenes, Limits(max_pixels=1000)), whole)
    with pytest.raises(TooLarge, match="pixels are more"):
        fetched(water, rules(scenes, Limits(max_pixels=1000)), stac_item(scenes.url), "application/geo+json")
    with pytest.raises(TooLarge, match="would have to be fetched"):
        fetched(water, rules(scenes, max_bytes=100_000), whole)
    with pytest.raises(TooLarge, match="takes more than 65536 bytes"):
        fetched(water, rules(scenes, Limits(max_body_bytes=65536)), whole)
    slow = {"href": f"{scenes.url}/slow/scenes/whole.tif"}
    with pytest.raises(OutOfTime, match="did not come in 2 s"):
        fetched(water, rules(scenes, prefixes=(f"{scenes.url}/slow/",), seconds=2), slow)
    with pytest.raises(OutOfTime, match=r"did not come in 1\.5 s"):  # all that the request still has
        fetched(water, rules(scenes, prefixes=(f"{scenes.url}/slow/",), seconds=60), slow, left=1.5)


def test_a_server_that_is_away(water: UseCase, scenes: SceneServer) -> None:
    gone = "http://127.0.0.1:9/scenes/"
    with pytest.raises(TemporaryFailure, match="could not be brought here") as caught:
        fetched(water, rules(scenes, prefixes=(gone,)), {"href": f"{gone}x.tif"})
    assert "CURL" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"href": "{url}", "bbox": [1, 2, 3]}, UsageError),
        ({"href": "{url}", "bbox": [3, 2, 1, 4]}, UsageError),
        ({"href": "{url}", "bbox": [500_000, 4_199_000, 500_100, 4_199_100]}, UsageError),
        ({"href": "{url}", "bbox": [0, 0, 1, 1], "crs": "EPSG:0"}, UsageError),
        ({"href": "{url}", "bbox": [0, 0, 1, 1], "crs": "EPSG:32630"}, DataRefused),
        ({"href": "{url}", "bbox": [10, 10, 11, 11]}, DataRefused),
        ({"href": "{url}", "crs": "EPSG:32630"}, UsageError),
        ({"href": "{url}", "token": "x"}, UsageError),
        ({"href": ["{url}"]}, UsageError),
    ],
    ids=str,
)
def test_references_that_say_nothing_useful(
    water: UseCase, scenes: SceneServer, document: dict[str, Any], error: type[TerraloopError]
) -> None:
    said = json.loads(json.dumps(document).replace("{url}", f"{scenes.url}/scenes/whole.tif"))
    with pytest.raises(error) as caught:
        fetched(water, rules(scenes), said)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        *((address, False) for address in (
            "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1",
            "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1",
            "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
        )),
    ],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("prefix", ["http://h/x", "ftp://h/", "https:///x/", "http://u@h/", "http://h/../", "s3:///"])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(ValueError, match="is no prefix"):
        Remote(prefixes=(prefix,))
