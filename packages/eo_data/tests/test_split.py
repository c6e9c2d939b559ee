"""The split: a pure function of the place, and no place on two sides (design 4.2)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from eo_data.errors import DataRefused
from eo_data.split import Placement, place_chip, place_scene, side
from eo_data.usecase import SPLITS, Split, SplitRule

RULE = SplitRule(salt="a test", cell=5120)
quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def at(longitude: float, latitude: float, crs: str, *, pixels: int = 1, step: float = 10.0) -> GeoBox:
    """A chip whose centre lies there."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    half = pixels * step / 2
    return GeoBox((pixels, pixels), Affine(step, 0, x - half, 0, -step, y + half), crs)


def from_cell_border(longitude: float, latitude: float) -> float:
    """Distance of a place from the nearest border of its cell, metres."""
    place = np.array(Transformer.from_crs("EPSG:4326", EQUAL_AREA, always_xy=True).transform(longitude, latitude))
    return float(np.minimum(place % RULE.cell, RULE.cell - place % RULE.cell).min())


@given(longitude=st.floats(-178, 178), latitude=st.floats(-79, 79))
@quick
def test_one_place_in_two_utm_zones_is_one_cell(longitude: float, latitude: float) -> None:
    assume(from_cell_border(longitude, latitude) > 30)
    zone = int((longitude + 180) // 6) + 1
    hemisphere = 32600 if latitude >= 0 else 32700
    neighbour = zone + 1 if zone < 60 else zone - 1
    own, other = (place_chip(RULE, at(longitude, latitude, f"EPSG:{hemisphere + z}")) for z in (zone, neighbour))
    assert own is not None
    assert own == other
    degrees = place_chip(RULE, at(longitude, latitude, "EPSG:4326", step=1e-5))
    assert degrees == own


@given(
    cell=st.tuples(st.integers(-3000, 3000), st.integers(-1200, 1200)),
    shift=st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000)),
    turn=st.floats(0, 360),
)
@quick
def test_north_up_or_turned_the_place_decides(cell: tuple[int, int], shift: tuple[float, float], turn: float) -> None:
    centre = Affine.translation(
        *((number + 0.5) * RULE.cell + metres for number, metres in zip(cell, shift, strict=True))
    )
    for place in (centre @ Affine.scale(10, -10), centre @ Affine.rotation(turn) @ Affine.scale(10, -10)):
        placement = place_chip(RULE, GeoBox((64, 64), place @ Affine.translation(-32, -32), EQUAL_AREA))
        name = f"5120m/{cell[0]}/{cell[1]}"
        assert placement == Placement(side(RULE, name), name)


def test_a_side_depends_on_salt_and_place_alone() -> None:
    places = [f"5120m/{k}/7" for k in range(300)]
    first = [side(RULE, place) for place in places]
    assert [side(RULE, place) for place in reversed(places)] == first[::-1]
    assert [side(SplitRule(salt="another"), place) for place in places] != first


@pytest.mark.parametrize(
    "fractions",
    [
        {"train": 0.5, "validation": 0.15, "holdout": 0.175, "test": 0.175},
        {"train": 0.8, "validation": 0.2},
        {"test": 1.0},
    ],
)
def test_shares_come_out_right(fractions: dict[Split, float]) -> None:
    rule = SplitRule(salt="shares", fractions=fractions)
    count = Counter(side(rule, f"place {k}") for k in range(8000))
    for split in SPLITS:
        assert count[split] / 8000 == pytest.approx(fractions.get(split, 0), abs=0.02)
    assert set(count) == set(fractions)


def test_the_same_places_keep_their_sides_when_a_share_grows_at_its_end() -> None:
    less = SplitRule(salt="s", fractions={"train": 0.5, "validation": 0.1, "holdout": 0.2, "test": 0.2})
    more = SplitRule(salt="s", fractions={"train": 0.5, "validation": 0.1, "holdout": 0.1, "test": 0.3})
    for k in range(500):
        before, after = side(less, f"{k}"), side(more, f"{k}")
        assert before == after or (before, after) == ("holdout", "test")


def test_a_chip_across_two_sides_belongs_to_neither() -> None:
    kept, dropped = 0, 0
    for k in range(60):  # along a row of cells, a chip on each border between two
        chip = GeoBox((64, 64), Affine(10, 0, 5120 * k - 320, 0, -10, 2_000_000 + 2560), "EPSG:6933")
        row = (2_000_000 + 2240) // 5120
        sides = {side(RULE, f"5120m/{k + shift}/{row}") for shift in (-1, 0)}
        placement = place_chip(RULE, chip)
        if len(sides) == 1:
            assert placement is not None
            assert placement.split in sides
            kept += 1
        else:
            assert placement is None
            dropped += 1
    assert kept > 5
    assert dropped > 5


def test_a_chip_is_asked_everywhere_not_only_at_its_corners() -> None:
    """A wide chip whose corners lie in cells of one side, with another side's cell between them."""
    row = 100
    sides = [side(RULE, f"5120m/{k}/{row}") for k in range(400)]
    first = next(k for k in range(400) if sides[k] == sides[k + 4] and sides[k + 2] != sides[k])
    left, top = 5120 * first + 1000, 5120 * row + 3000
    chip = GeoBox((4, 200), Affine((4 * 5120 + 2000) / 200, 0, left, 0, -10, top), "EPSG:6933")
    assert place_chip(RULE, chip) is None


def test_a_chip_across_the_180th_meridian_is_like_any_other() -> None:
    lonely = SplitRule(salt="s", fractions={"train": 1.0})
    chip = at(180, -17, "EPSG:32701", pixels=128)
    placement = place_chip(lonely, chip)
    assert placement is not None
    assert placement.split == "train"
    x = abs(int(placement.cell.split("/")[1]))
    assert x in (3392, 3393)  # 17 367 530 m / 5120 m


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031", "EPSG:4326"])
@pytest.mark.parametrize("latitude", [86.5, 89.0, 90.0])
def test_the_poles_are_refused(crs: str, latitude: float) -> None:
    latitude = -latitude if crs == "EPSG:3031" else latitude
    chip = at(30, latitude, crs, pixels=64, step=1e-4 if crs == "EPSG:4326" else 10)
    with pytest.raises(DataRefused, match="86 degrees"):
        place_chip(RULE, chip)


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3995"])
def test_short_of_the_poles_a_polar_grid_is_fine(crs: str) -> None:
    assume_far = [(longitude, 75.0 + k / 10) for k, longitude in enumerate(range(-170, 170, 20))]
    placed = [place_chip(RULE, at(*place, crs)) for place in assume_far if from_cell_border(*place) > 30]
    assert len(placed) > 10
    assert all(placed)


def test_a_place_outside_the_world_is_refused() -> None:
    with pytest.raises(DataRefused, match="Check the CRS"):
        place_chip(RULE, GeoBox((8, 8), Affine(10, 0, 400, 0, -10, 900), "EPSG:4326"))


def test_a_crs_without_a_place_on_earth_is_refused() -> None:
    with pytest.raises(DataRefused, match="no place on Earth"):
        place_chip(RULE, GeoBox((8, 8), Affine(10, 0, 0, 0, -10, 0), 'LOCAL_CS["a desk",UNIT["metre",1]]'))


LISTS = SplitRule(salt="lists", lists={"train": {"train": 0.8, "validation": 0.2}, "val": "holdout", "test": "test"})


def test_a_list_decides_before_a_place() -> None:
    assert place_scene(LISTS, "s1", None, "val") == Placement("holdout", "s1")
    assert place_scene(LISTS, "s1", "Lake Chad", "test") == Placement("test", "Lake Chad")
    shared = Counter(place_scene(LISTS, f"s{k}", None, "train").split for k in range(2000))
    assert shared["train"] / 2000 == pytest.approx(0.8, abs=0.03)
    assert set(shared) == {"train", "validation"}


def test_scenes_of_one_place_are_on_one_side_and_in_one_cell() -> None:
    placed = {place_scene(LISTS, f"s{k}", "Lake Chad", None) for k in range(50)}
    assert len(placed) == 1
    assert {place_scene(LISTS, "s", f"place {k}", None).split for k in range(100)} == set(SPLITS)


def test_a_scene_of_no_place_and_an_unknown_list_are_refused() -> None:
    with pytest.raises(DataRefused, match=r"^s1: no CRS, no place and no list"):
        place_scene(LISTS, "s1", None, None)
    with pytest.raises(DataRefused, match=r"^s1: the use case has no list 'extra'"):
        place_scene(LISTS, "s1", "Lake Chad", "extra")
