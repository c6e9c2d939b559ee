"""Value skew: scenes unlike the training scenes are reported by sensor and month, and stay accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml

from eo_data.references import Reference, group_names, make_groups, newest_reference, quantile_columns, write_reference
from eo_data.skew import LEAST_SCENES, compare, report_skew
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT


def row(number: int, shift: float = 0, platform: str | None = None, month: int | None = None) -> dict[str, Any]:
    """A feature row with quantiles of a plausible scene, `shift` added to all."""
    rng = np.random.default_rng(number)
    features: dict[str, Any] = {"scene_id": f"s{number:03d}", "platform": platform, "month": month}
    for band in ("B02", "B03", "B04", "B08", "B11", "B12"):
        for quantile, level in (("q02", 400), ("q50", 1200), ("q98", 2500)):
            features[f"{quantile}_{band}"] = round(float(rng.normal(level, 200)) + shift, 2)
    return features


def usecase(**data: Any) -> UseCase:
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())
    return UseCase("water", {"data": sections["data"] | data})


TRAINING = [row(n, platform="sentinel-2a", month=1 + n % 2) for n in range(40)]
WINTER = [row(100 + n, 1500, "sentinel-2b", 12) for n in range(12)]


def test_groups_go_from_platform_and_month_to_all() -> None:
    assert group_names(row(0, platform="sentinel-2a", month=7)) == ["sentinel-2a/07", "sentinel-2a", "all"]
    assert group_names(row(0, platform="sentinel-2a")) == ["sentinel-2a", "all"]
    assert group_names(row(0, month=7)) == ["all"]


def test_a_group_knows_median_and_spread_of_its_own_scenes(water: UseCase) -> None:
    columns = quantile_columns(water.data)
    groups = make_groups([*TRAINING, *WINTER, {**row(7), "q02_B02": None}], columns)
    assert {name: group.n for name, group in groups.items()} == {
        "all": 52, "sentinel-2a": 40, "sentinel-2a/01": 20, "sentinel-2a/02": 20,
        "sentinel-2b": 12, "sentinel-2b/12": 12,
    }  # fmt: skip
    known = groups["sentinel-2a"].quantiles["q50_B08"]
    values = [features["q50_B08"] for features in TRAINING]
    assert known.median == pytest.approx(np.median(values), abs=0.01)
    assert known.spread == pytest.approx(np.std(values), rel=0.35)
    assert groups["sentinel-2a"].quantiles.keys() == set(columns)


def test_a_scene_is_compared_with_the_narrowest_group_that_tells(water: UseCase, store: Store) -> None:
    write_reference(store, water, "d" * 64, [*TRAINING, *WINTER, *[row(n, 0, "landsat-8", 5) for n in range(7)]])
    reference = newest_reference(store, water)
    assert reference is not None

    def found(**place: Any) -> tuple[str, bool]:
        result = compare(row(999, **place), reference)
        assert result is not None
        return result["group"], result["distance"] > water.data.expectations.max_skew

    assert found(platform="sentinel-2a", month=1) == ("sentinel-2a/01", False)
    assert found(platform="sentinel-2a", month=6) == ("sentinel-2a", False)
    assert found(platform="sentinel-2b", month=12) == ("sentinel-2b/12", True)  # unlike winter
    assert found(platform="sentinel-2b", month=12, shift=1500) == ("sentinel-2b/12", False)
    assert found(platform="sentinel-2a", month=1, shift=1500) == ("sentinel-2a/01", True)
    assert found(platform="landsat-8", month=5)[0] == "all"
    assert LEAST_SCENES == 8


def test_scenes_that_hardly_differ_are_no_reason_to_report_one_that_does_by_little(water: UseCase) -> None:
    groups = make_groups([row(0)] * 20, quantile_columns(water.data))
    reference = Reference(usecase="water", dataset="d", reads="r", created="c", groups=groups)
    near, far = compare(row(0, 390), reference), compare(row(0, 410), reference)
    assert near is not None
    assert far is not None
    assert near["distance"] < water.data.expectations.max_skew < far["distance"]


def test_what_is_unlike_is_written_for_the_trigger_once(water: UseCase, store: Store) -> None:
    assert report_skew(store, water, "suite", "batch", [row(999)]) == (None, None)
    write_reference(store, water, "a" * 64, TRAINING[:7])
    assert report_skew(store, water, "suite", "batch", [row(999)]) == (None, None)
    write_reference(store, water, "b" * 64, TRAINING)
    rows = [row(500), row(501, 3000), {**row(502), **dict.fromkeys(quantile_columns(water.data))}]
    skew, uri = report_skew(store, water, "suite", "batch", rows)
    assert uri == store.resolve(f"monitoring/skew/water/suite/batch-{'b' * 16}-4.json")
    assert skew is not None
    assert list(skew) == ["s501"]
    assert "spreads from the" in skew["s501"]
    report = store.get_json(store.key(uri))
    assert report["skewed"] == ["s501"]
    assert report["scenes"]["s500"]["group"] == "all"
    assert report["scenes"]["s502"] is None
    assert store.get_json(store.key(report["reference"]))["dataset"] == "b" * 64
    assert report_skew(store, water, "suite", "batch", rows) == (skew, uri)
    assert store.get_json(store.key(uri)) == report
    lenient = usecase(expectations={"max_skew": 100})
    told, other = report_skew(store, lenient, "suite", "batch", rows)
    assert (told, other) != (skew, uri)
    assert told == {}
    assert store.get_json(store.key(str(other)))["skewed"] == []


def test_a_reference_of_other_bands_or_radiometry_is_never_compared_with(water: UseCase, store: Store) -> None:
    first = write_reference(store, water, "a" * 64, TRAINING)
    assert write_reference(store, water, "a" * 64, WINTER) == first  # never edited
    for other in (usecase(inputs=["B02", "B03"]), usecase(reflectance={"scale": 0.0002})):
        assert newest_reference(store, other) is None
    write_reference(store, water, "0" * 64, WINTER)
    newest = newest_reference(store, water)
    assert newest is not None
    assert newest.dataset == "0" * 64
    assert newest_reference(store, usecase(sensor="renamed")) == newest
