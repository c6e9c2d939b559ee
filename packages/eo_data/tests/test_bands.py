"""Band names: one band has several, and a file's bands are found by them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_data.bands import Band, band_indexes, band_key
from eo_data.errors import DataRefused
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS

WATER = UseCase.load(str(ROOT / "usecases" / "water")).data
HLS = UseCase.load(str(ROOT / "usecases" / "water-hls")).data
BLUE = Band(name="B02", common_name="blue")


def find(*descriptions: str | None) -> tuple[int, ...]:
    return band_indexes(descriptions, WATER.bands, WATER.input_bands, "scene.tif")


@pytest.mark.parametrize("name", ["B2", "B02", "b2", "B002", " b_02 ", "B-2", "blue", "Blue", "BLUE"])
def test_one_band_has_many_names(name: str) -> None:
    assert band_key(name) in BLUE.keys


@pytest.mark.parametrize("name", ["B12", "B20", "B2A", "B", "2", "bleu", "blue2", ""])
def test_other_names_are_other_bands(name: str) -> None:
    assert band_key(name) not in BLUE.keys


def test_letters_behind_the_number_count() -> None:
    assert band_key("B8A") == band_key("b08a") != band_key("B8")


def test_bands_are_found_in_any_order_and_others_ignored() -> None:
    assert find("B12", "cloud mask", "B8", None, "green", "B11", "red", "B2", "") == (8, 5, 7, 3, 6, 1)


@given(order=st.permutations(S2_BANDS), spelling=st.sampled_from([str, str.lower, lambda n: n.replace("B0", "B")]))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_a_shuffled_file_gives_the_same_bands(order: list[str], spelling: object) -> None:
    assert callable(spelling)
    found = find(*(spelling(name) for name in order))
    assert [order[index - 1] for index in found] == list(WATER.inputs)


def test_without_descriptions_position_decides_where_the_count_is_a_full_list() -> None:
    assert find(*[None] * 13) == (2, 3, 4, 8, 12, 13)
    assert find(*[""] * 13) == find(*[" "] * 13) == (2, 3, 4, 8, 12, 13)
    assert find(*[None] * 6) == (1, 2, 3, 4, 5, 6)
    assert band_indexes([None] * 7, HLS.bands, HLS.input_bands) == (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("count", [0, 1, 3, 5, 7, 12, 14, 600])
def test_without_descriptions_any_other_count_is_refused(count: int) -> None:
    with pytest.raises(DataRefused, match=rf"^scene\.tif: {count} bands without descriptions, but 13 or 6 are needed"):
        find(*[None] * count)


def test_one_description_makes_a_file_described() -> None:
    with pytest.raises(DataRefused, match=r"band B03 is missing \(found: B02\)"):
        find("B02", *[None] * 12)


def test_a_missing_band_is_named() -> None:
    with pytest.raises(DataRefused, match=r"^scene\.tif: band B11 is missing \(found: B02, B03, B04, B08, B12\)"):
        find("B02", "B03", "B04", "B08", "B12")


def test_a_doubled_band_is_named_whatever_it_is_called() -> None:
    with pytest.raises(DataRefused, match="band B02 stands 2 times"):
        find("B02", "B03", "B04", "B08", "B11", "B12", "blue")
    assert find("B02", "B03", "B04", "B08", "B11", "B12", "B01", "B01") == (1, 2, 3, 4, 5, 6)  # nobody wants B01
