"""GeoTIFF in, mask out, without a network: pixels and grids are compared, not only statuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.usecase import UseCase
from eo_serving.invocation import Answer, Invocation, answer
from eo_serving.service import Service, open_service

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
INPUTS = ("B02", "B03", "B04", "B08", "B11", "B12")
GREEN, NIR = 2, 7  # places in the full list


def ask(
    service: Service, body: bytes, query: str = "", accept: str | None = None, content_type: str = "image/tiff"
) -> Answer:
    return answer(Invocation(content_type, accept, query, body), service)


def scene(height: int, width: int, seed: int = 0, dtype: str = "uint16") -> NDArray[Any]:
    """Thirteen bands of random values, none of them nodata."""
    return np.random.default_rng(seed).integers(1, 6000, (13, height, width)).astype(dtype)


def ndwi_mask(green: NDArray[Any], nir: NDArray[Any]) -> NDArray[np.uint8]:
    """What the model of the tests answers, computed without it."""
    return (green.astype(np.float64) > nir).astype(np.uint8)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32630", Affine(10, 0, 500_000, 0, -10, 4_200_000)),
        ("EPSG:4326", Affine(8.98e-5, 0, -6.1, 0, -8.98e-5, 38.2)),
        ("EPSG:32630", Affine(9, 3, 500_000, 4, -9, 4_200_000)),
        ("EPSG:32630", Affine(10, 0, 500_000, 0, 10, 4_200_000)),
        ("EPSG:3031", Affine(20, 0, -1e6, 0, -30, 2e6)),
        ('LOCAL_CS["site",UNIT["metre",1]]', Affine(1, 0, 0, 0, -1, 50)),
        (None, None),
        (None, Affine(10, 0, 500_000, 0, -10, 4_200_000)),
        ("EPSG:32630", None),
    ],
    ids=["utm", "geographic", "rotated", "south-up", "polar", "local", "none", "transform-only", "crs-only"],
)
def test_mask_lies_on_exactly_the_inputs_grid(
    service: Service, tiff: Any, decode: Any, crs: str | None, transform: Affine | None
) -> None:
    pixels = scene(70, 90)
    body = tiff(pixels, crs=crs, transform=transform, names=S2)
    result = ask(service, body)
    mask = decode(result.body)
    assert result.content_type == "image/tiff"
    assert mask.grid == decode(body).grid
    assert mask.pixels.dtype == np.uint8
    np.testing.assert_array_equal(mask.pixels[0], ndwi_mask(pixels[GREEN], pixels[NIR]))


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (3, 2), (64, 64), (65, 57), (600, 530)])
def test_any_size_from_one_pixel(service: Service, tiff: Any, decode: Any, size: tuple[int, int]) -> None:
    pixels = scene(*size, seed=size[0])
    mask = decode(ask(service, tiff(pixels, names=S2)).body)
    np.testing.assert_array_equal(mask.pixels[0], ndwi_mask(pixels[GREEN], pixels[NIR]))
    assert mask.layout == "COG"
    assert bool(mask.overviews) == (max(size) > 512)


def test_mask_says_what_it_is(service: Service, tiff: Any, decode: Any) -> None:
    result = ask(service, tiff(scene(20, 20), names=S2))
    mask = decode(result.body)
    expected = {
        "Terraloop-Model": "water/1",
        "Terraloop-Run": "run1",
        "Terraloop-Digest": service.digest,
        "Terraloop-Radiometry": "scale=0.0001 offset=0 (usecase)",
    }
    assert dict(result.headers) == expected
    assert expected.items() <= mask.tags.items()
    assert mask.nodata == 255
    assert mask.descriptions == ("class",)
    assert (mask.colors[0], mask.colors[1]) == ((0xD9, 0xC9, 0xA3, 255), (0x1F, 0x6F, 0xD1, 255))
    assert (mask.tags["CLASS_0"], mask.tags["CLASS_1"]) == ("land", "water")


@pytest.mark.parametrize("accept", [None, "image/tiff; band=probability", "image/png", "application/x-npy"])
def test_identical_bytes_in_identical_bytes_out(service: Service, tiff: Any, accept: str | None) -> None:
    body = tiff(scene(80, 60), names=S2)
    assert ask(service, body, accept=accept) == ask(service, body, accept=accept)


def test_nodata_in_is_nodata_out(service: Service, tiff: Any, decode: Any) -> None:
    pixels = scene(100, 100)
    pixels[:, :30, :] = 0  # a collar
    pixels[:, :, :7] = 0
    pixels[GREEN, 60, 60] = 0  # one band is enough
    pixels[0, 70, 70] = 0  # a band that the model does not read is not
    mask = decode(ask(service, tiff(pixels, names=S2, nodata=0)).body).pixels[0]
    expected = ndwi_mask(pixels[GREEN], pixels[NIR])
    expected[:30] = expected[:, :7] = expected[60, 60] = 255
    np.testing.assert_array_equal(mask, expected)


def test_declared_nodata_counts_before_the_use_cases(service: Service, tiff: Any, decode: Any) -> None:
    pixels = scene(10, 10)
    pixels[:, 0, 0], pixels[NIR, 5, 5] = 9999, 0
    mask = decode(ask(service, tiff(pixels, names=S2, nodata=9999)).body).pixels[0]
    assert (mask[0, 0], mask[5, 5]) == (255, 1)


def test_without_any_data_everything_is_nodata(service: Service, tiff: Any, decode: Any) -> None:
    for pixels in (np.zeros((13, 70, 70), np.uint16), np.full((13, 70, 70), np.nan, np.float32)):
        assert (decode(ask(service, tiff(pixels, names=S2)).body).pixels == 255).all()


def test_values_that_are_no_numbers_are_nodata(service: Service, tiff: Any, decode: Any) -> None:
    pixels = scene(20, 20, dtype="float64")
    pixels[NIR, 3, 3], pixels[NIR, 4, 4], pixels[GREEN, 5, 5], pixels[GREEN, 6, 6] = np.nan, np.inf, 1e300, 3e38
    mask = decode(ask(service, tiff(pixels, names=S2)).body).pixels[0]
    bad = [(3, 3), (4, 4), (5, 5)]
    assert [mask[at] for at in bad] == [255] * 3
    expected = ndwi_mask(pixels[GREEN], pixels[NIR])
    ordinary = mask != 255
    assert ordinary.sum() >= 400 - 4
    np.testing.assert_array_equal(mask[ordinary], expected[ordinary])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_any_numeric_type(service: Service, tiff: Any, decode: Any, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(1, 120, (13, 30, 30)).astype(dtype)
    mask = decode(ask(service, tiff(pixels, names=S2)).body).pixels[0]
    np.testing.assert_array_equal(mask, ndwi_mask(pixels[GREEN], pixels[NIR]))


@pytest.mark.parametrize(
    "creation",
    [
        {"compress": "deflate", "predictor": 2},
        {"compress": "lzw", "interleave": "pixel"},
        {"compress": "zstd", "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"BIGTIFF": "YES"},
        {"blockysize": 1},
    ],
    ids=["deflate", "lzw-pixel", "zstd-tiled", "bigtiff", "strips"],
)
def test_the_files_layout_does_not_matter(service: Service, tiff: Any, creation: dict[str, Any]) -> None:
    pixels = scene(90, 75)
    assert ask(service, tiff(pixels, names=S2, **creation)).body == ask(service, tiff(pixels, names=S2)).body


class TestBands:
    def test_by_description_in_any_order(self, service: Service, tiff: Any) -> None:
        pixels = scene(40, 40)
        order = np.random.default_rng(3).permutation(13)
        shuffled = tiff(pixels[order], names=tuple(S2[i] for i in order))
        assert ask(service, shuffled).body == ask(service, tiff(pixels, names=S2)).body

    def test_by_any_of_a_bands_names(self, service: Service, tiff: Any) -> None:
        pixels = scene(40, 40)[[11, 1, 2, 3, 12, 7]]
        body = tiff(pixels, names=("swir16", "B2", "green", "b04", "SWIR2", "nir"))
        straight = tiff(pixels[[1, 2, 3, 5, 0, 4]], names=INPUTS)
        assert ask(service, body).body == ask(service, straight).body

    def test_what_nobody_names_is_ignored(self, service: Service, tiff: Any) -> None:
        pixels = scene(40, 40)
        extra = np.concatenate([np.full((1, 40, 40), 7, np.uint16), pixels])
        assert ask(service, tiff(extra, names=("fmask", *S2))).body == ask(service, tiff(pixels, names=S2)).body
        assert ask(service, tiff(extra, names=(None, *S2))).body == ask(service, tiff(pixels, names=S2)).body

    def test_full_list_by_position(self, service: Service, tiff: Any) -> None:
        pixels = scene(40, 40)
        assert ask(service, tiff(pixels)).body == ask(service, tiff(pixels, names=S2)).body

    def test_the_models_own_by_position(self, service: Service, tiff: Any) -> None:
        pixels = scene(40, 40)
        own = pixels[[S2.index(name) for name in INPUTS]]
        assert ask(service, tiff(own)).body == ask(service, tiff(pixels)).body

    @pytest.mark.parametrize("count", [1, 4, 7, 12, 14])
    def test_any_other_count_is_refused(self, service: Service, tiff: Any, count: int) -> None:
        body = tiff(np.ones((count, 8, 8), np.uint16))
        with pytest.raises(DataRefused, match=f"{count} bands without descriptions, but 13 or 6"):
            ask(service, body)

    def test_a_missing_band_is_named(self, service: Service, tiff: Any) -> None:
        with pytest.raises(DataRefused, match="band B08 is missing"):
            ask(service, tiff(scene(8, 8)[:7], names=S2[:7]))

    def test_a_doubled_band_is_named(self, service: Service, tiff: Any) -> None:
        with pytest.raises(DataRefused, match="band B03 stands 2 times"):
            ask(service, tiff(scene(8, 8), names=("green", *S2[1:])))

    def test_the_query_names_bands(self, service: Service, tiff: Any) -> None:
        pixels = scene(40, 40)
        backwards = tiff(pixels[::-1])
        assert ask(service, backwards, "bands=" + ",".join(S2[::-1])).body == ask(service, tiff(pixels)).body
        with pytest.raises(DataRefused, match="3 band names for 13 bands"):
            ask(service, backwards, "bands=B02,B03,B04")

    def test_hls_without_crs_ignores_fmask(self, water_hls: UseCase, make_model: Any, tiff: Any, decode: Any) -> None:
        service = open_service(make_model(water_hls), water_hls)
        pixels = np.random.default_rng(0).integers(1, 4000, (8, 128, 128)).astype(np.int16)
        pixels[3, 5, 5] = -20  # atmospheric correction leaves negative reflectance, which is data
        pixels[:, :9] = -9999
        names = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2", "fmask")
        mask = decode(ask(service, tiff(pixels, crs=None, transform=None, names=names)).body)
        assert (mask.crs, mask.transform) == (None, Affine.identity())
        assert (mask.pixels[0, :9] == 255).all()
        np.testing.assert_array_equal(mask.pixels[0, 9:], ndwi_mask(pixels[2, 9:], pixels[4, 9:]))


class TestOtherAnswers:
    def test_probability(self, service: Service, tiff: Any, decode: Any) -> None:
        pixels = scene(70, 40)
        pixels[:, :10] = 0
        body = tiff(pixels, names=S2)
        result = ask(service, body, accept="image/tiff; band=probability")
        probability, mask = decode(result.body), decode(ask(service, body).body)
        assert (result.content_type, probability.pixels.dtype) == ("image/tiff", np.float32)
        assert probability.descriptions == ("land", "water")
        assert probability.grid == mask.grid
        assert np.isnan(probability.pixels[:, :10]).all()
        np.testing.assert_allclose(probability.pixels[:, 10:].sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(probability.pixels[:, 10:].argmax(axis=0), mask.pixels[0, 10:])
        assert probability.tags["Terraloop-Digest"] == service.digest

    def test_npy(self, service: Service, tiff: Any, decode: Any, tmp_path: Path) -> None:
        body = tiff(scene(70, 40), names=S2)
        result = ask(service, body, accept="application/x-npy")
        (tmp_path / "mask.npy").write_bytes(result.body)
        np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), decode(ask(service, body).body).pixels[0])

    def test_quicklook(self, service: Service, tiff: Any, tmp_path: Path) -> None:
        from PIL import Image

        pixels = scene(1100, 30)  # thinned to every second pixel
        pixels[GREEN], pixels[NIR] = 1000, 2000
        pixels[GREEN, 600:] = 3000
        result = ask(service, tiff(pixels, names=S2), accept="image/png")
        (tmp_path / "look.png").write_bytes(result.body)
        with Image.open(tmp_path / "look.png") as picture:
            shown = np.asarray(picture.convert("RGB")).astype(int)
        assert shown.shape[0] > 550  # the legend
        bare, laid = shown[:550, :15], shown[:550, 19:34]
        np.testing.assert_array_equal(bare[:295], laid[:295])  # land is not painted
        blue = laid[305:, :, 2] - laid[305:, :, 0]
        assert (blue.mean(), blue.min()) > (60, 0)  # water is


def test_geotiff_may_be_said(service: Service, tiff: Any) -> None:
    body = tiff(scene(9, 9), names=S2)
    said = ask(service, body, content_type="image/tiff; application=geotiff")
    assert said == ask(service, body) == ask(service, body, content_type="Image/TIFF")


def test_the_hand_labelled_spanish_chip(service: Service, test_data: Path, decode: Callable[[bytes], Any]) -> None:
    body = (test_data / "sen1floods11" / "S2Hand" / "Spain_7370579_S2Hand.tif").read_bytes()
    chip, mask = decode(body), decode(ask(service, body).body)
    assert mask.grid == chip.grid
    valid = (chip.pixels[[1, 2, 3, 7, 11, 12]] != 0).all(axis=0)
    expected = np.where(valid, ndwi_mask(chip.pixels[GREEN], chip.pixels[NIR]), 255)
    np.testing.assert_array_equal(mask.pixels[0], expected)
    assert set(np.unique(mask.pixels)) >= {0, 1}
