"""Rasters that a request names, at the running endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from affine import Affine

UTM = Affine(10, 0, 500_000, 0, -10, 4_200_000)
JSON, TIFF = {"Content-Type": "application/json"}, {"Accept": "image/tiff"}


@pytest.fixture(scope="module")
def scenes(scene_server: Any, tiff_chip: bytes) -> Any:
    scene_server.files |= {"/scenes/chip.tif": tiff_chip, "/hidden/chip.tif": tiff_chip}
    return scene_server


@pytest.fixture(scope="module")
def reader(start_server: Any, scenes: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    remote = {"prefixes": [f"{scenes.url}/scenes/"], "private": True}
    running = start_server(tmp_path_factory.mktemp("reader") / "state", serve={"remote": remote})
    running.await_status("/readyz", 200)
    return running


def test_a_named_raster_is_answered_as_if_it_had_been_sent(
    reader: Any, scenes: Any, tiff_chip: bytes, decode: Any
) -> None:
    href = f"{scenes.url}/scenes/chip.tif"
    with reader.client() as client:
        sent = client.post("/invocations", content=tiff_chip, headers={"Content-Type": "image/tiff"})
        named = client.post("/invocations", json={"href": href}, headers=TIFF)
        box = {"href": href, "bbox": [500_100, 4_199_500, 500_400, 4_199_900], "crs": "EPSG:32630"}
        cut = client.post("/invocations", json=box, headers=TIFF)
        said = client.post("/invocations", json=box)
    assert (named.status_code, named.content) == (200, sent.content)
    assert named.headers["Terraloop-Model"] == "water/2"
    whole, part = decode(sent.content), decode(cut.content)
    assert part.grid == ("EPSG:32630", UTM @ Affine.translation(10, 10), (40, 30))
    assert (part.pixels[0] == whole.pixels[0, 10:50, 10:40]).mean() == 1.0
    assert said.headers["content-type"] == "application/json"
    assert sum(one["pixels"] for one in said.json()["classes"]) == (part.pixels != 255).sum()


def test_an_item_is_answered(reader: Any, scenes: Any, tiff_chip: bytes, decode: Any) -> None:
    bands = [{"name": name} for name in ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08")]
    bands += [{"name": name} for name in ("B8A", "B09", "B10", "B11", "B12")]
    asset = {"href": f"{scenes.url}/scenes/chip.tif", "type": "image/tiff", "bands": bands, "raster:scale": 0.0001}
    item: dict[str, Any] = {
        "type": "Feature", "stac_version": "1.1.0", "id": "chip", "geometry": None, "links": [],
        "properties": {"datetime": "2026-06-01T10:00:00Z"}, "assets": {"image": asset},
    }  # fmt: skip
    with reader.client() as client:
        sent = client.post("/invocations", content=tiff_chip, headers={"Content-Type": "image/tiff"})
        named = client.post("/invocations", json=item, headers={"Content-Type": "application/geo+json"})
    assert named.status_code == 200, named.text
    assert named.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=0 (stac)"
    assert (decode(named.content).pixels == decode(sent.content).pixels).all()


@pytest.mark.parametrize(
    ("href", "status"),
    [("{url}/hidden/chip.tif", 422), ("file:///etc/passwd", 422), ("{url}/scenes/none.tif", 422), ("", 400)],
)
def test_refusals(reader: Any, scenes: Any, is_problem: Any, href: str, status: int) -> None:
    with reader.client() as client:
        is_problem(client.post("/invocations", json={"href": href.format(url=scenes.url)}), status)


def test_it_is_off_by_default(server: Any, scenes: Any, is_problem: Any) -> None:
    asked = len(scenes.paths)
    with server.client() as client:
        response = client.post("/invocations", json={"href": f"{scenes.url}/scenes/chip.tif"})
    assert "reads no addresses" in is_problem(response, 422)["detail"]
    assert len(scenes.paths) == asked


def test_a_caller_cannot_pass_what_only_the_front_says(server: Any, tiff_chip: bytes) -> None:
    forged = {"Content-Type": "image/tiff", "terraloop-item": '{"asset": {"bands": [{"raster:scale": 5.0}]}}'}
    with server.client() as client:
        response = client.post("/invocations", content=tiff_chip, headers=forged)
    assert response.headers["Terraloop-Radiometry"].endswith("(usecase)")
