"""The split: a pure function of the place, and no place on two sides (design 4.2)."""

from __future__ import annotations

from collections import Counter

import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from eo_data.errors import DataRefused
from eo_data.split import Placement, place_chip, place_scene, side
from eo_data.usecase import SPLITS, Split, SplitRule

RULE = SplitRule(salt="a test", cell=5120)


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


def row_of_cells(count: int) -> list[Split]:
    """The sides of a row of cells at the equator's grid, y from 100 to 101 cells."""
    return [side(RULE, f"5120m/{k}/100") for k in range(count)]


def chip_at(x: float, y: float, *, pixels: int = 128, step: float = 10.0) -> GeoBox:
    """A chip on the cells' own grid, its upper left corner in metres."""
    return GeoBox((pixels, pixels), Affine(step, 0, x, 0, -step, y), "EPSG:6933")


def test_a_chip_takes_the_side_of_its_cell_when_it_is_half_a_chip_from_any_other_side() -> None:
    """Along a row of cells, where the cells above and below are not touched."""
    sides = row_of_cells(80)
    kept: Counter[bool] = Counter()
    for k in range(1, 79):
        for from_border in (-1280, -700, -600, 0, 600, 660, 700, 1500):
            left = 5120 * k + from_border
            placement = place_chip(RULE, chip_at(left, 100 * 5120 + 3200))
            first, last = (int(x // 5120) for x in (left - 650, left + 1280 + 650))  # half a chip and a pixel
            if len(set(sides[first : last + 1])) == 1:
                assert placement == Placement(sides[k], f"5120m/{int((left + 640) // 5120)}/100")
            else:
                assert placement is None
            kept[placement is not None] += 1
    assert min(kept[True], kept[False]) > 100


def test_a_chip_is_asked_everywhere_not_only_at_its_corners() -> None:
    """A wide chip whose corners lie in cells of one side, with another side's cell between them."""
    sides = row_of_cells(400)
    first = next(k for k in range(400) if sides[k] == sides[k + 4] and sides[k + 2] != sides[k])
    left, top = 5120 * first + 1000, 5120 * 100 + 3000
    chip = GeoBox((4, 200), Affine((4 * 5120 + 2000) / 200, 0, left, 0, -10, top), "EPSG:6933")
    assert place_chip(RULE, chip) is None


def test_of_a_chip_cut_off_by_the_scenes_edge_half_a_whole_chip_counts() -> None:
    k = next(k for k in range(400) if row_of_cells(400)[k] != row_of_cells(400)[k + 1])
    thin = chip_at(5120 * (k + 1) - 100 - 300, 100 * 5120 + 3000, pixels=10)
    assert place_chip(RULE, thin) is not None
    assert place_chip(RULE, thin, margin=64) is None


def test_with_one_side_alone_nothing_is_left_out() -> None:
    lonely = SplitRule(salt="s", fractions={"train": 1.0})
    for chip in (chip_at(0, 0), GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")):
        placement = place_chip(lonely, chip)
        assert placement is not None
        assert placement.split == "train"


def test_a_chip_over_half_the_world_lies_on_many_sides() -> None:
    assert place_chip(RULE, GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")) is None


LISTS = SplitRule(salt="lists", lists={"train": {"train": 0.8, "validation": 0.2}, "val": "holdout", "test": "test"})


def test_a_list_decides_before_a_place() -> None:
    assert place_scene(LISTS, "s1", None, "val") == Placement("holdout", "s1")
    assert place_scene(LISTS, "s1", "Lake Chad", "test") == Placement("test", "Lake Chad")
    shared = Counter(place_scene(LISTS, f"s{k}", None, "train").split for k in range(2000))
    assert shared["train"] / 2000 == pytest.approx(0.8, abs=0.03)
    assert set(shared) == {"train", "validation"}


def test_dates_of_one_place_are_on_one_side_of_a_shared_list() -> None:
    placed = {place_scene(LISTS, f"date {k}", "Lake Chad", "train") for k in range(50)}
    assert len(placed) == 1
    assert {place_scene(LISTS, "s", f"place {k}", "train").split for k in range(100)} == {"train", "validation"}


def test_scenes_of_one_place_are_on_one_side_and_in_one_cell() -> None:
    placed = {place_scene(LISTS, f"s{k}", "Lake Chad", None) for k in range(50)}
    assert len(placed) == 1
    assert {place_scene(LISTS, "s", f"place {k}", None).split for k in range(100)} == set(SPLITS)


def test_a_scene_of_no_place_and_an_unknown_list_are_refused() -> None:
    with pytest.raises(DataRefused, match=r"^s1: no CRS, no place and no list"):
        place_scene(LISTS, "s1", None, None)
    with pytest.raises(DataRefused, match=r"^s1: the use case has no list 'extra'"):
        place_scene(LISTS, "s1", "Lake Chad", "extra")
