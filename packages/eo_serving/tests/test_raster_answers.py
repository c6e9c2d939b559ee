"""Polygons, statistics and pictures: each says of the mask what the mask says, in other words."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from pyproj import Geod, Transformer
from rasterio.features import rasterize
from shapely.geometry import shape

from eo_data.errors import DataRefused
from eo_serving.invocation import Answer, Invocation, answer
from eo_serving.problem import NotOffered, TooLarge
from eo_serving.service import Service

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
UTM = Affine(10, 0, 500_000, 0, -10, 4_200_000)
ROTATED = Affine(8, 3, 500_000, 3, -8, 4_200_000)
DEGREES = Affine(1e-3, 0, 10.0, 0, -1e-3, 60.0)
GEOD = Geod(ellps="WGS84")


def ask(service: Service, body: bytes, accept: str) -> Answer:
    return answer(Invocation("image/tiff", accept, "", body), service)


def document(service: Service, body: bytes, accept: str) -> Any:
    return json.loads(ask(service, body, accept).body)


def patches(height: int, width: int) -> NDArray[np.uint16]:
    """Water and land in patches of nine pixels and of one, and a corner without data."""
    rng = np.random.default_rng(3)
    water = np.kron(rng.random((height // 9 + 1, width // 9 + 1)) < 0.5, np.ones((9, 9)))[:height, :width] != 0
    water ^= rng.random((height, width)) < 0.02
    bands = np.full((13, height, width), 900, np.uint16)
    bands[2], bands[7] = np.where(water, 2000, 500), np.where(water, 400, 2500)
    bands[:, :12, :17] = 0
    return bands


GRIDS = [
    pytest.param(("EPSG:32630", UTM), id="utm"),
    pytest.param(("EPSG:32630", ROTATED), id="rotated"),
    pytest.param(("EPSG:4326", DEGREES), id="degrees"),
    pytest.param(("EPSG:3857", Affine(50, 0, 1_000_000, 0, -50, 8_000_000)), id="web-mercator"),
]


@pytest.fixture(params=GRIDS)
def placed(request: pytest.FixtureRequest, tiff: Any) -> tuple[str, Affine, bytes]:
    crs, transform = request.param
    return crs, transform, tiff(patches(150, 130), names=S2, crs=crs, transform=transform, nodata=0)


def mask_of(service: Service, body: bytes, decode: Any) -> NDArray[np.uint8]:
    mask: NDArray[np.uint8] = decode(ask(service, body, "image/tiff").body).pixels[0]
    return mask


def area_of(crs: str, transform: Affine, mask: NDArray[np.uint8], value: int) -> float:
    """Area of a class in m2, one pixel's outline after the other."""
    to_lonlat = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    total = 0.0
    for row, column in np.argwhere(mask == value)[::7]:
        corners = [transform @ (column + x, row + y) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
        total += abs(GEOD.polygon_area_perimeter(*to_lonlat.transform(*np.transpose(corners)))[0])
    return total * np.count_nonzero(mask == value) / len(np.argwhere(mask == value)[::7])


WORLD = 2 * 20037508.342789244
"""Side of the square of EPSG:3857, m."""


def on_the_sphere(geometry: Any) -> float:
    """Area in m2 of a geometry in degrees, on the sphere of the ellipsoid's area: longitude times sine of latitude."""
    parts = geometry.geoms if geometry.geom_type == "MultiPolygon" else [geometry]
    total = 0.0
    for part in parts:
        for ring, sign in ((part.exterior, 1), *((hole, -1) for hole in part.interiors)):
            points = np.array(ring.segmentize(0.5).coords)
            x, y = np.radians(points[:, 0]), np.sin(np.radians(points[:, 1]))
            total += sign * abs(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    return total * 6371007.181**2


class TestStatistics:
    def test_counts_what_is_in_the_mask(self, service: Service, placed: Any, decode: Any) -> None:
        crs, transform, body = placed
        mask = mask_of(service, body, decode)
        found = document(service, body, "application/json")
        assert (found["shape"], found["crs"], found["model"]) == ([150, 130], crs, service.label)
        assert found["pixels"] == np.count_nonzero(mask != 255) < mask.size
        assert found["valid_fraction"] == pytest.approx(1 - 12 * 17 / mask.size, abs=1e-6)
        assert [(c["value"], c["name"]) for c in found["classes"]] == [(0, "land"), (1, "water")]
        for one in found["classes"]:
            assert one["pixels"] == np.count_nonzero(mask == one["value"]) > 0
            assert one["fraction"] == pytest.approx(one["pixels"] / found["pixels"], abs=1e-6)
            assert one["hectares"] * 1e4 == pytest.approx(area_of(crs, transform, mask, one["value"]), rel=2e-4)

    def test_without_a_grid_there_are_pixels_and_no_areas(self, service: Service, tiff: Any) -> None:
        found = document(service, tiff(patches(40, 50), names=S2, crs=None, transform=None), "application/json")
        assert found["crs"] is None
        assert "no CRS" in found["area_note"]
        assert [c["hectares"] for c in found["classes"]] == [None, None]
        assert sum(c["pixels"] for c in found["classes"]) == 40 * 50 - 12 * 17

    def test_nothing_but_nodata(self, service: Service, tiff: Any) -> None:
        found = document(service, tiff(np.zeros((13, 5, 6), np.uint16), names=S2, nodata=0), "application/json")
        assert (found["pixels"], found["valid_fraction"]) == (0, 0.0)
        assert [c["mean_probability"] for c in found["classes"]] == [None, None]

    def test_mean_probability(self, service: Service, tiff: Any, decode: Any) -> None:
        body = tiff(patches(60, 60), names=S2)
        mask = mask_of(service, body, decode)
        probability = decode(ask(service, body, "image/tiff; band=probability").body).pixels
        for one in document(service, body, "application/json")["classes"]:
            mean = float(probability[one["value"]][mask == one["value"]].mean())
            assert one["mean_probability"] == pytest.approx(mean, abs=1e-4)


class TestPolygons:
    def test_burnt_back_they_are_the_mask(self, service: Service, placed: Any, decode: Any) -> None:
        crs, transform, body = placed
        mask = mask_of(service, body, decode)
        features = document(service, body, "application/geo+json")["features"]
        back = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
        burnt = np.full(mask.shape, 255, np.uint8)
        for feature in features:
            rings = [
                [~transform @ point for point in zip(*back.transform(*np.transpose(ring)), strict=True)]
                for ring in feature["geometry"]["coordinates"]
            ]
            outline = {"type": "Polygon", "coordinates": rings}
            own = rasterize([(outline, 1)], mask.shape) == 1
            assert np.count_nonzero(own) == feature["properties"]["pixels"]
            burnt[own] = feature["properties"]["class"]
        np.testing.assert_array_equal(burnt, mask)

    def test_areas_are_those_of_the_outlines_and_of_the_statistics(self, service: Service, placed: Any) -> None:
        _, _, body = placed
        features = document(service, body, "application/geo+json")["features"]
        for feature in features:
            area, _ = GEOD.geometry_area_perimeter(shape(feature["geometry"]))
            assert area > 0  # RFC 7946: outer rings run counterclockwise, holes clockwise
            assert feature["properties"]["area_m2"] == pytest.approx(area, rel=2e-3)
        for one in document(service, body, "application/json")["classes"]:
            own = [f["properties"] for f in features if f["properties"]["class"] == one["value"]]
            assert {p["name"] for p in own} == {one["name"]}
            assert sum(p["pixels"] for p in own) == one["pixels"]
            assert sum(p["area_m2"] for p in own) / 1e4 == pytest.approx(one["hectares"], rel=1e-5)
            mean = sum(p["mean_probability"] * p["pixels"] for p in own) / one["pixels"]
            assert mean == pytest.approx(one["mean_probability"], abs=2e-4)

    def test_valid_with_holes_and_the_same_each_time(self, service: Service, tiff: Any) -> None:
        body = tiff(patches(150, 130), names=S2, nodata=0)
        first = ask(service, body, "application/geo+json")
        assert first.content_type == "application/geo+json"
        assert first.body == ask(service, body, "application/geo+json").body
        shapes = [shape(f["geometry"]) for f in json.loads(first.body)["features"]]
        assert all(s.is_valid for s in shapes)
        assert any(s.interiors for s in shapes)
        assert all(s.exterior.is_ccw and not any(hole.is_ccw for hole in s.interiors) for s in shapes)

    def test_long_edges_follow_the_grid(self, service: Service, tiff: Any) -> None:
        """The edge of one class over 300 km bends by hundreds of metres between longitude and latitude."""
        bands = np.full((13, 4, 3000), 900, np.uint16)
        transform = Affine(100, 0, 300_000, 0, -100, 6_700_000)
        (feature,) = document(service, tiff(bands, names=S2, transform=transform), "application/geo+json")["features"]
        to_utm = Transformer.from_crs("OGC:CRS84", "EPSG:32630", always_xy=True)
        ring = np.transpose(to_utm.transform(*np.transpose(feature["geometry"]["coordinates"][0])))
        lengths = np.hypot(*np.diff(ring, axis=0).T)
        assert 400 <= lengths.max() <= 12_801
        middle = np.mean(
            [feature["geometry"]["coordinates"][0][:-1], feature["geometry"]["coordinates"][0][1:]], axis=0
        )
        off = np.abs(np.asarray(to_utm.transform(*middle.T)[1])[:, None] - [6_700_000, 6_699_600]).min(axis=1)
        assert off[lengths > 500].max() < 10

    def test_across_the_antimeridian_they_are_cut(self, service: Service, tiff: Any) -> None:
        bands = np.full((13, 20, 40), 900, np.uint16)
        body = tiff(bands, names=S2, crs="EPSG:4326", transform=Affine(0.01, 0, 179.8, 0, -0.01, 10.0))
        (feature,) = document(service, body, "application/geo+json")["features"]
        assert feature["geometry"]["type"] == "MultiPolygon"
        longitudes = np.concatenate([np.asarray(part[0])[:, 0] for part in feature["geometry"]["coordinates"]])
        assert np.abs(longitudes).max() == 180
        assert np.abs(longitudes).min() >= 179.8
        area, _ = GEOD.geometry_area_perimeter(shape(feature["geometry"]))
        assert area == pytest.approx(feature["properties"]["area_m2"], rel=1e-3)

    @pytest.mark.parametrize(
        ("crs", "transform", "size"),
        [
            ("EPSG:4326", Affine(10, 0, -180, 0, -10, 90), (18, 36)),  # pixels as large as countries
            ("EPSG:4326", Affine(2, 0, 0, 0, -2, 90), (90, 180)),  # longitudes from 0 to 360
            ("EPSG:4326", Affine(1, 0, 170, 0, -1, 10), (20, 20)),  # over 180
            ("EPSG:3857", Affine(WORLD / 64, 0, -WORLD / 2, 0, -WORLD / 64, WORLD / 2), (64, 64)),
            ("EPSG:3031", Affine(40000, 0, -1e6, 0, -40000, 1e6), (50, 50)),  # the south pole inside
            ("EPSG:3413", Affine(40000, 0, -1e6, 0, -40000, 1e6), (50, 50)),  # the north pole
            ("EPSG:32601", Affine(20000, 0, 200000, 0, -20000, 7000000), (20, 20)),  # UTM beside 180
        ],
    )
    @pytest.mark.parametrize("pattern", ["one", "parts", "hole"])
    def test_any_place_on_the_globe(
        self, service: Service, tiff: Any, crs: str, transform: Affine, size: tuple[int, int], pattern: str
    ) -> None:
        """Valid, and as large as its pixels: of the sphere with the ellipsoid's area, to a few percent."""
        height, width = size
        pixels = np.full((6, height, width), 1000, np.uint16)
        pixels[1] = 500  # green below nir: land
        if pattern == "parts":
            pixels[1, height // 4 : height // 2, width // 4 :] = 2000
        if pattern == "hole":
            pixels[1, height // 4 : height // 2, width // 4 : width // 2] = 2000
        found = document(service, tiff(pixels, crs=crs, transform=transform), "application/geo+json")
        assert len(found["features"]) == 1 + (pattern != "one")
        for feature in found["features"]:
            geometry = shape(feature["geometry"])
            assert geometry.is_valid
            west, south, east, north = geometry.bounds
            assert -180 <= west <= east <= 180
            assert -90 <= south <= north <= 90
            assert on_the_sphere(geometry) == pytest.approx(feature["properties"]["area_m2"], rel=0.03)

    @pytest.mark.parametrize(
        ("crs", "transform"),
        [
            ("EPSG:4326", Affine(0.01, 0, 1000, 0, -0.01, 10)),  # no longitude
            ("EPSG:4978", Affine(10, 0, 1000, 0, -10, 10)),  # geocentric
            ("EPSG:4326", Affine(1e-300, 0, 10, 0, -1e-300, 10)),  # pixels of no size
        ],
    )
    def test_no_place_on_the_globe(self, service: Service, tiff: Any, crs: str, transform: Affine) -> None:
        body = tiff(np.full((6, 20, 20), 1000, np.uint16), crs=crs, transform=transform)
        for accept in ("application/geo+json", "application/json"):
            with pytest.raises(DataRefused, match="no place on Earth"):
                document(service, body, accept)

    def test_the_globe_is_as_large_as_it_is(self, service: Service, tiff: Any) -> None:
        body = tiff(np.full((6, 18, 36), 1000, np.uint16), crs="EPSG:4326", transform=Affine(10, 0, -180, 0, -10, 90))
        classes = document(service, body, "application/json")["classes"]
        assert sum(one["hectares"] for one in classes) == pytest.approx(51_006_562_172, rel=1e-4)

    def test_no_grid_no_polygons(self, service: Service, tiff: Any) -> None:
        with pytest.raises(DataRefused, match="no CRS"):
            ask(service, tiff(patches(9, 9), names=S2, crs=None, transform=None), "application/geo+json")

    def test_a_grid_that_leads_nowhere(self, service: Service, tiff: Any) -> None:
        nowhere = tiff(patches(9, 9), names=S2, crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 500))
        for accept in ("application/geo+json", "application/json"):
            with pytest.raises(DataRefused, match="no place on Earth"):
                ask(service, nowhere, accept)

    def test_too_many(self, service: Service, tiff: Any) -> None:
        limits = service.serve.limits.model_copy(update={"max_polygons": 5})
        few = replace(service, serve=service.serve.model_copy(update={"limits": limits}))
        with pytest.raises(TooLarge, match="more than 5 polygons"):
            ask(few, tiff(patches(60, 60), names=S2), "application/geo+json")

    def test_nothing_but_nodata_is_no_feature(self, service: Service, tiff: Any) -> None:
        empty = tiff(np.zeros((13, 5, 6), np.uint16), names=S2, nodata=0)
        assert document(service, empty, "application/geo+json") == {"type": "FeatureCollection", "features": []}


class TestPicture:
    @pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (300, 512)])
    def test_has_a_legend_below(self, service: Service, tiff: Any, height: int, width: int) -> None:
        bands = patches(max(height, 20), max(width, 20))[:, -height:, -width:]
        picture = Image.open(io.BytesIO(ask(service, tiff(bands, names=S2), "image/png").body)).convert("RGB")
        pixels = np.asarray(picture)
        assert pixels.shape[0] > height
        assert pixels.shape[1] >= 2 * width + 4
        below = {tuple(int(part) for part in color) for color in pixels[height:].reshape(-1, 3)}
        assert {(0xD9, 0xC9, 0xA3), (0x1F, 0x6F, 0xD1)} <= below

    def test_offers_are_named(self, service: Service, tiff: Any) -> None:
        with pytest.raises(NotOffered, match=r"accepted") as caught:
            ask(service, tiff(patches(20, 20), names=S2), "text/csv")
        for offered in ("image/tiff; band=probability", "application/geo+json", "application/json", "image/png"):
            assert offered in caught.value.fix
