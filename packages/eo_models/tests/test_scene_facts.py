"""Strata come from a scene's STAC item; what it does not say is absent, never guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eo_data.dataset import SceneRecord
from eo_models.scene_facts import ABSENT, SceneFacts, facts_of, read_facts

from .conftest import World


def test_an_item_says_platform_month_and_region() -> None:
    item = {
        "bbox": [-8.9, 42.1, -8.1, 42.8],
        "properties": {"platform": "Sentinel-2A", "constellation": "sentinel-2", "datetime": "2023-07-04T11:00:00Z"},
    }
    assert read_facts(item) == SceneFacts("sentinel-2a", "07", "N40 W010")


@pytest.mark.parametrize(
    ("bbox", "region"),
    [
        ([179.0, -17.0, -179.5, -16.0], "S20 E170"),
        ([-179.9, -17.0, -179.5, -16.0], "S20 W180"),
        ([10.0, 0.5, 11.0, 1.5], "N00 E010"),
        ([10.0, 0.5, 7.0, 11.0, 1.5, 9.0], "N00 E010"),
        (None, None),
    ],
)
def test_regions_are_squares_named_by_their_south_western_corner(bbox: Any, region: str | None) -> None:
    assert read_facts({"bbox": bbox, "properties": {}}).region == region


def test_constellation_then_instruments_stand_in_for_a_platform() -> None:
    assert read_facts({"properties": {"constellation": "landsat", "instruments": ["oli"]}}).platform == "landsat"
    assert read_facts({"properties": {"instruments": ["oli", "tirs"]}}).platform == "oli+tirs"


def test_a_range_of_time_is_no_month() -> None:
    item = {"properties": {"datetime": None, "start_datetime": "1970-01-01T00:00:00Z", "end_datetime": "2026-01-01"}}
    facts = read_facts(item)
    assert [facts.stratum(kind) for kind in ("platform", "month", "region")] == [ABSENT] * 3


def test_facts_are_read_from_the_store_and_a_scene_that_is_gone_says_nothing(world: World) -> None:
    key = "scenes/made-up/train-00/0123456789abcdef/item.json"
    world.store.put_new(key, json.dumps({"properties": {"datetime": "2024-12-31T23:59:59Z"}}).encode())
    there, *others = world.dataset.manifest.scenes
    known = there.model_copy(update={"uri": world.store.resolve(key)})
    gone = others[0].model_copy(update={"uri": world.store.resolve("scenes/made-up/x/0123456789abcdef/item.json")})
    elsewhere: SceneRecord = others[1].model_copy(update={"uri": "s3://another/scenes/a/b/c/item.json"})
    facts = facts_of(world.store, [known, gone, elsewhere])
    assert facts[there.id].month == "12"
    assert facts[gone.id] == facts[elsewhere.id] == SceneFacts()
