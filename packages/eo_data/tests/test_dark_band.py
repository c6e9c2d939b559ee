"""An offset that nothing states is found in a band that is near zero, by one rule for every way pixels come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.dark_band import WHOLE, array_low_quantile, dark_band_index
from eo_data.radiometry import Radiometry, choose_radiometry, offset_applied, with_offset_by_values
from eo_data.rasters import open_image
from eo_data.usecase import UseCase

from .conftest import S2_BANDS, write_tiff


@pytest.mark.parametrize(
    ("dark", "source"),
    [
        (None, "usecase"),
        (10.0, "usecase"),
        (900.0, "usecase"),
        (901.0, "values"),
        (1499.0, "values"),
        (1500.0, "usecase"),
    ],
)
def test_only_a_low_quantile_near_the_offset_tells_it(dark: float | None, source: str, water: UseCase) -> None:
    rule = with_offset_by_values(choose_radiometry(water.data.reflectance), water.data.reflectance, dark)
    assert (rule.source, rule.offset) == (source, -0.1 if source == "values" else 0.0)


def test_what_somebody_states_is_not_overruled(water: UseCase) -> None:
    for source in ("stac", "stac-baseline", "gdal", "request"):
        rule = Radiometry(0.0001, 0.0, 0, source)
        assert with_offset_by_values(rule, water.data.reflectance, 1010.0) is rule


def test_a_dark_band_is_found_by_name_and_by_the_full_list_alone(water: UseCase) -> None:
    assert dark_band_index(S2_BANDS, water.data) == 11
    assert dark_band_index((None,) * 13, water.data) == 11
    assert dark_band_index(("cirrus", "blue"), water.data) == 1
    assert dark_band_index(("B02", "B03"), water.data) is None
    assert dark_band_index((None,) * 6, water.data) is None
    assert dark_band_index((None,), water.data) is None


def cirrus(shape: tuple[int, int], added: int) -> NDArray[np.uint16]:
    """Thirteen bands whose cirrus is near zero but for a cloud; `added` to all."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(300, 3000, (13, *shape), dtype=np.uint16)
    pixels[10] = rng.integers(5, 30, shape)
    pixels[10, : shape[0] // 3] = 2500
    return pixels + np.uint16(added)


@pytest.mark.parametrize("shape", [(1, 1), (40, 30), (128, 128), (700, 900)])
@pytest.mark.parametrize("added", [0, 1000])
def test_the_answer_depends_on_pixels_and_never_on_the_file(
    shape: tuple[int, int], added: int, tmp_path: Path, water: UseCase
) -> None:
    pixels = cirrus(shape, added)
    profiles: list[dict[str, Any]] = [
        {"interleave": "pixel"},
        {"interleave": "band", "tiled": True, "blockxsize": 256, "blockysize": 256},
        {"blockysize": shape[0], "compress": "lzw"},
    ]
    found = set()
    for number, profile in enumerate(profiles):
        path = write_tiff(tmp_path / f"{number}.tif", pixels, names=S2_BANDS, nodata=0, **profile)
        for source in (str(path), path.read_bytes()):
            with open_image(source, water.data, where="image") as image:
                found.add((image.radiometry, image.dark_value))
    ((rule, dark),) = found
    assert rule.source == ("values" if added else "usecase")
    assert dark == array_low_quantile(pixels[10], 0)


def test_of_a_great_raster_nine_windows_decide(tmp_path: Path, water: UseCase) -> None:
    side = int(WHOLE**0.5) + 64
    pixels = np.full((13, side, side), 2000, np.uint16)
    pixels[10] = 1010
    pixels[10, 0, :] = 3  # a row that no window meets
    path = write_tiff(tmp_path / "great.tif", pixels, names=S2_BANDS, tiled=True, blockxsize=256, blockysize=256)
    with open_image(str(path), water.data, where="image") as image:
        assert image.radiometry == Radiometry(0.0001, -0.1, 0, "values")
        assert image.read(5, 5, 1, 1)[0].tolist() == [[[1000.0]]] * 6


def test_pixels_without_data_have_no_say(tmp_path: Path, water: UseCase) -> None:
    pixels = cirrus((64, 64), 1000)
    pixels[:, :50] = 0
    with open_image(str(write_tiff(tmp_path / "a.tif", pixels, names=S2_BANDS)), water.data, where="image") as image:
        assert image.radiometry.source == "values"
    with open_image(
        str(write_tiff(tmp_path / "b.tif", pixels * 0, names=S2_BANDS)), water.data, where="image"
    ) as image:
        assert (image.dark_value, image.radiometry.source) == (None, "usecase")


@pytest.mark.parametrize("flag", ["earthsearch:boa_offset_applied", "sentinel:boa_offset_applied"])
def test_a_catalog_that_removed_the_offset_is_believed_before_the_offset_it_states(flag: str, water: UseCase) -> None:
    default = water.data.reflectance
    asset = {"bands": [{"raster:scale": 0.0001, "raster:offset": -0.1}] * 6}
    baseline = {"s2:processing_baseline": "05.11"}
    for applied, with_asset, with_baseline in ((True, 0.0, 0.0), (False, -0.1, -0.1), ("yes", -0.1, -0.1)):
        properties = {**baseline, flag: applied}
        assert offset_applied(properties) is (applied is True)
        assert choose_radiometry(default, asset=asset, properties=properties).offset == with_asset
        assert choose_radiometry(default, properties=properties).offset == with_baseline
    assert choose_radiometry(default, properties={flag: True}) == Radiometry(0.0001, 0.0, 0, "stac")
