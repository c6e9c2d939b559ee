"""Sensor values to reflectance x 10000: who decides, and what the numbers become (design 4.6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eo_data.errors import DataRefused, UsageError
from eo_data.radiometry import Radiometry, choose_radiometry
from eo_data.reflectance import Reflectance

DEFAULT = Reflectance(scale=0.0001, offset=0.0, nodata=0)
ITEM = {"raster:scale": 0.0002, "raster:offset": -0.2}
BASELINE = {"s2:processing_baseline": "04.00"}
GDAL: dict[str, Any] = {"scales": (0.0003, 0.0003), "offsets": (-0.3, -0.3)}
REQUEST = (0.0004, -0.4)


def test_the_nearest_to_the_pixels_decides() -> None:
    everyone: dict[str, Any] = {"asset": ITEM, "properties": BASELINE, **GDAL, "request": REQUEST}
    wanted = [
        ("stac", 0.0002, -0.2, "asset"),
        ("stac-baseline", 0.0001, -0.1, "properties"),
        ("gdal", 0.0003, -0.3, "scales"),
        ("request", 0.0004, -0.4, "request"),
        ("usecase", 0.0001, 0.0, None),
    ]
    for source, scale, offset, next_left_out in wanted:
        rule = choose_radiometry(DEFAULT, **everyone)
        assert (rule.source, rule.scale, rule.offset, rule.nodata) == (source, scale, offset, 0)
        if next_left_out == "scales":
            everyone.pop("offsets")
        everyone.pop(next_left_out or "", None)


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("02.09", 0.0), ("03.01", 0.0), ("04.00", -0.1), ("05.09", -0.1), ("05.11", -0.1), ("99.99", 0.0), ("00.01", 0.0)],
)
def test_sentinel2_adds_1000_from_baseline_4_on(baseline: str, offset: float) -> None:
    rule = choose_radiometry(DEFAULT, properties={"s2:processing_baseline": baseline})
    assert (rule.scale, rule.offset, rule.source) == (0.0001, offset, "stac-baseline")
    values, _ = rule.reflectance(np.full((2, 1, 1), 2345, np.uint16))
    assert values.tolist() == [[[2345 + 10000 * offset]]] * 2


def test_a_processing_version_is_a_baseline_with_sentinel2_alone() -> None:
    version = {"processing:version": "05.10"}
    assert choose_radiometry(DEFAULT, properties={**version, "constellation": "Sentinel-2"}).offset == -0.1
    assert choose_radiometry(DEFAULT, properties={**version, "platform": "sentinel-2b"}).offset == -0.1
    for other in ({}, {"constellation": "landsat"}, {"platform": "hls"}):
        assert choose_radiometry(DEFAULT, properties={**version, **other}).source == "usecase"


@pytest.mark.parametrize("baseline", ["", "new", None, "nan", "inf", [4]])
def test_an_unreadable_baseline_says_nothing(baseline: Any) -> None:
    assert choose_radiometry(DEFAULT, properties={"s2:processing_baseline": baseline}).source == "usecase"


@pytest.mark.parametrize(
    "asset",
    [
        {"raster:scale": 0.0002, "raster:offset": -0.2},
        {"bands": [{"raster:scale": 0.0002, "raster:offset": -0.2}] * 2},
        {"bands": [{"name": "B02"}, {"name": "B03", "raster:scale": 0.0002, "raster:offset": -0.2}]},
    ],
)
def test_items_say_it_in_several_ways(asset: dict[str, Any]) -> None:
    assert choose_radiometry(DEFAULT, asset=asset) == Radiometry(0.0002, -0.2, 0, "stac")


def test_a_scale_without_an_offset_has_offset_0() -> None:
    assert choose_radiometry(DEFAULT, asset={"raster:scale": 0.0002}).offset == 0
    assert choose_radiometry(DEFAULT, asset={"raster:scale": 0.0002, "raster:offset": None}).offset == 0
    assert choose_radiometry(DEFAULT, request=(0.0002, None)).offset == 0


def test_an_items_offset_without_a_scale_has_the_use_cases_scale() -> None:
    assert choose_radiometry(DEFAULT, asset={"raster:offset": -0.1}) == Radiometry(0.0001, -0.1, 0, "stac")


@pytest.mark.parametrize("item", [{}, {"bands": None}, {"raster:scale": None}, {"bands": [{}, {}]}])
def test_an_item_without_a_scale_says_nothing(item: dict[str, Any]) -> None:
    assert choose_radiometry(DEFAULT, asset=item).source == "usecase"


def test_gdals_identity_says_nothing() -> None:
    rule = choose_radiometry(DEFAULT, scales=(1.0, 1.0), offsets=(0.0, 0.0), request=REQUEST)
    assert rule.source == "request"
    assert choose_radiometry(DEFAULT, scales=(1.0,), offsets=(0.0,)).source == "usecase"
    assert choose_radiometry(DEFAULT, scales=(1.0,), offsets=(-0.1,)).source == "gdal"


@pytest.mark.parametrize(
    "said",
    [
        {"asset": {"bands": [{"raster:scale": 0.0001}, {"raster:scale": 0.0002}]}},
        {"asset": {"raster:scale": 0.0001, "bands": [{"raster:scale": 0.0001, "raster:offset": -0.1}]}},
        {"scales": (0.0001, 0.0002), "offsets": (0.0, 0.0)},
        {"scales": (1.0, 0.0001), "offsets": (0.0, 0.0)},
        {"asset": {"raster:scale": "much"}},
        {"asset": {"raster:scale": 0.1, "raster:offset": [1]}},
        {"asset": {"raster:scale": 0}},
        {"asset": {"raster:scale": -0.0001}},
        {"asset": {"raster:scale": float("nan")}},
        {"scales": (0.0,), "offsets": (0.0,)},
        {"scales": (0.0001,), "offsets": (float("inf"),)},
        {"request": (0.0, 0.0)},
        {"request": (float("inf"), 0.0)},
        {"request": (0.0001, float("nan"))},
    ],
)
def test_contradictions_and_nonsense_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(DataRefused) as refusal:
        choose_radiometry(DEFAULT, **said)
    assert refusal.value.fix


def test_a_requests_offset_needs_a_scale() -> None:
    with pytest.raises(UsageError, match="an offset without a scale"):
        choose_radiometry(DEFAULT, request=(None, -0.1))


def test_the_files_nodata_comes_before_the_use_cases() -> None:
    assert choose_radiometry(DEFAULT).nodata == 0
    assert choose_radiometry(DEFAULT, nodata=-9999).nodata == -9999
    assert choose_radiometry(Reflectance()).nodata is None


def test_pixels_without_data_in_any_band_are_0_in_all() -> None:
    values = np.array([[[0, 1000, 1000, 1000]], [[1000, 0, 1000, 1001]]], np.uint16)
    reflectance, valid = Radiometry(0.0001, -0.1, 0, "stac").reflectance(values)
    assert valid.tolist() == [[False, False, True, True]]
    assert reflectance.tolist() == [[[0, 0, 0, 0]], [[0, 0, 0, 1]]]
    assert reflectance.dtype == np.float32


def test_a_value_of_0_is_data_where_nobody_says_otherwise() -> None:
    _, valid = Radiometry(0.0001, 0, None, "usecase").reflectance(np.zeros((1, 1, 1), np.uint16))
    assert valid.all()


@pytest.mark.parametrize("nodata", [None, float("nan"), -3.4028234663852886e38, 1e39, -9999.0])
def test_nan_and_infinity_never_are_data(nodata: float | None) -> None:
    values = np.array([[[np.nan, np.inf, -np.inf, 0.5]]], np.float32)
    reflectance, valid = Radiometry(1.0, 0.0, nodata, "request").reflectance(values)
    assert valid.tolist() == [[False, False, False, True]]
    assert reflectance.tolist() == [[[0, 0, 0, 5000]]]


def test_a_float_files_largest_negative_number_can_be_nodata() -> None:
    values = np.array([[[-3.4028234663852886e38, 0.5]]], np.float32)
    assert Radiometry(1.0, 0.0, -3.4028234663852886e38, "gdal").reflectance(values)[1].tolist() == [[False, True]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_every_type_of_pixel_becomes_the_same_number(dtype: type[np.generic]) -> None:
    reflectance, valid = Radiometry(0.01, -0.1, -9999, "gdal").reflectance(np.full((1, 1, 1), 50).astype(dtype))
    assert valid.all()
    assert reflectance.tolist() == [[[4000]]]


def test_values_that_overflow_have_no_reflectance() -> None:
    _, valid = Radiometry(1.0, 0.0, None, "request").reflectance(np.array([[[1e36, 1e300]]]))
    assert valid.tolist() == [[False, False]]


def test_the_answer_can_tell_which_rule_it_was() -> None:
    assert str(Radiometry(0.0001, -0.1, 0, "stac")) == "scale=0.0001 offset=-0.1 (stac)"
